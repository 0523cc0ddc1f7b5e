"""From a file to chunks: read in a child process, understand the layout, split. No search."""
