"""Outside services, one per file, each behind a small class that hides its SDK."""
