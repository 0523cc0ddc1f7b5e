"""Alembic migrations of the list of uploads, run at start. New ones: `alembic revision`, with client/alembic.ini."""
