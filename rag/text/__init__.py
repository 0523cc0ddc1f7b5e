"""Text as such: normalization, invisible characters, language, stop words. No documents and no search."""
