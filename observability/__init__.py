"""What operators see: log lines, the audit log, redaction of secrets, and the commands to type."""
