"""Valkey itself: connections, key names, the embedded server, small shared state. Jobs are in client/rq."""
