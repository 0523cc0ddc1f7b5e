"""Telling others that a job has ended: endpoints, deliveries, the relay, and where a request may go. No HTTP routes."""
