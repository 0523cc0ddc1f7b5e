"""What Alembic runs, on the connection that client/sql/database.py gives it."""

from __future__ import annotations

from alembic import context

from client.sql.database import UploadRow

if not context.is_offline_mode():
    context.configure(connection=context.config.attributes["connection"], target_metadata=UploadRow.metadata)
    with context.begin_transaction():
        context.run_migrations()
