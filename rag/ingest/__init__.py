"""From a file to stored chunks: read in a child process, understand the layout, split into chunks. No search."""
