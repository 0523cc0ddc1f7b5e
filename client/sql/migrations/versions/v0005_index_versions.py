"""The versions of the index, and in which of them each upload is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = ("index_version", "built_version", "built_chunks", "build_error")


def upgrade() -> None:
    op.create_table(
        "index_versions",
        sa.Column("version_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("dimensions", sa.Integer),
        sa.Column("chunking", sa.Integer, nullable=False),
        sa.Column("collection", sa.String(400), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("job_id", sa.String(36)),
        sa.Column("upload_id", sa.String(36)),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    for name in _COLUMNS:
        op.add_column("uploads", sa.Column(name, sa.Text() if name == "build_error" else sa.Integer()))
    where = sa.text("(indexed_at IS NULL AND status IN ('queued', 'processing'))")
    op.create_index("uploads_pending", "uploads", ["user_id"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("uploads_pending", "uploads")
    for name in _COLUMNS:
        op.drop_column("uploads", name)
    op.drop_table("index_versions")
