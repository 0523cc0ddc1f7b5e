"""Text as such: normalisation, visibility, language and stop words. Nothing about documents or questions."""
