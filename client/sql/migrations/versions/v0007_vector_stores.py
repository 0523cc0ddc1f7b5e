"""Vector stores, their files and file batches; the purpose and the expiry of an upload."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("purpose", sa.String(20), nullable=False, server_default="assistants"))
    op.add_column("uploads", sa.Column("expires_at", sa.DateTime(timezone=True)))
    expiring = sa.text("expires_at IS NOT NULL")
    op.create_index("uploads_expiring", "uploads", ["expires_at"], sqlite_where=expiring, postgresql_where=expiring)
    op.create_table(
        "vector_stores",
        sa.Column("store_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(512)),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_active_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_days", sa.Integer),
    )
    op.create_index("vector_stores_newest", "vector_stores", ["user_id", "store_id"])
    op.create_table(
        "vector_store_files",
        sa.Column("store_id", sa.String(36), primary_key=True),
        sa.Column("upload_id", sa.String(36), primary_key=True),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("vector_store_files_upload", "vector_store_files", ["upload_id"])
    op.create_table(
        "file_batches",
        sa.Column("batch_id", sa.String(36), primary_key=True),
        sa.Column("store_id", sa.String(36), nullable=False),
        sa.Column("upload_ids", sa.JSON, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("file_batches_store", "file_batches", ["store_id"])


def downgrade() -> None:
    for table in ("file_batches", "vector_store_files", "vector_stores"):
        op.drop_table(table)
    op.drop_index("uploads_expiring", "uploads")
    for column in ("expires_at", "purpose"):
        op.drop_column("uploads", column)
