"""The quality of answers, measured on questions whose right pages are known. No search and no model."""
