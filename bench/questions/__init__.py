"""The real question under the real worker, and under what else a user might run: `make bench-queue`."""
