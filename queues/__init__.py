"""What workers run."""
