"""Alembic migrations of the list of uploads, run at start. A new one is the next file in versions/."""
