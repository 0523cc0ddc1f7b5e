"""docling-serve, a service that reads what our own readers cannot: pictures of pages, and further kinds of files."""
