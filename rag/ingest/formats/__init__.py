"""The text of each kind of file, for the reader process. A library is imported when it is needed."""
