"""The list of uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("file_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("unique_sha256", sa.String(64)),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("job_id", sa.String(36)),
        sa.Column("pages", sa.Integer()),
        sa.Column("pages_done", sa.Integer(), nullable=False),
        sa.Column("chunks", sa.Integer()),
        sa.Column("reason", sa.String(40)),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("indexed_at", sa.DateTime(timezone=True)),
    )
    op.create_index("uploads_newest", "uploads", ["user_id", "created_at", "upload_id"])
    op.create_index("uploads_content", "uploads", ["user_id", "sha256"])
    op.create_index("uploads_unique_content", "uploads", ["user_id", "unique_sha256"], unique=True)
    op.create_index("uploads_status", "uploads", ["status", "upload_id"])


def downgrade() -> None:
    op.drop_table("uploads")
