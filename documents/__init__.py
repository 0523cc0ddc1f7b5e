"""The life of an upload: accept, index again, reconcile, delete, and who may find it. No HTTP and no parsing."""
