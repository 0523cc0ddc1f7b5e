"""The steps of `make check` that are ours: sizes, generated documents, lock files, known vulnerabilities."""
