"""Files: the store of uploaded files, the data folder, and locks on files."""
