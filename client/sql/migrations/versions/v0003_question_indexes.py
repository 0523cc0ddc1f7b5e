"""Indexes for what every question reads of the list of uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create("uploads_searchable", "indexed_at", "(indexed_at IS NOT NULL AND status <> 'deleting')")
    _create("uploads_hidden", "upload_id", "(status = 'deleting' OR (status = 'processing' AND indexed_at IS NULL))")


def _create(name: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "uploads", ["user_id", column], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("uploads_hidden", "uploads")
    op.drop_index("uploads_searchable", "uploads")
