"""Webhooks about ended jobs: endpoints, deliveries, the outbox relay, the sender and its address rules. No routes."""
