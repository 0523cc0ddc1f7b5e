"""What operators see: log lines, the audit log, and the redaction of secrets."""
