"""Metrics for Prometheus: reading those of the whole deployment, the port that shows them, alerts, the dashboard."""
