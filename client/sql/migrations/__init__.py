"""Alembic migrations of the database, run with its first use. A new migration is the next file in versions/."""
