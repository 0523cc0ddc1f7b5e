"""Alembic's entry point: it runs the migrations on the connection that client/sql/database.py passes."""

from __future__ import annotations

from alembic import context

from client.sql.database import UploadRow

if not context.is_offline_mode():
    context.configure(connection=context.config.attributes["connection"], target_metadata=UploadRow.metadata)
    with context.begin_transaction():
        context.run_migrations()
