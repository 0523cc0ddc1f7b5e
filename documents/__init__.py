"""The life of an upload: accept, index again, delete, settle, and who may find it. No HTTP and no parsing."""
