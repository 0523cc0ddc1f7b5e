"""Pages that were read by OCR: their texts, and where the words stand."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recognized_pages",
        sa.Column("upload_id", sa.String(36), primary_key=True),
        sa.Column("read_at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("page", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("width", sa.Double),
        sa.Column("height", sa.Double),
        sa.Column("words", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("recognized_pages")
