"""Conversations and their items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "conversations",
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("conversation_id", sa.String(64), primary_key=True),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("conversations_newest", "conversations", ["user_id", "updated_at"])
    op.create_index("conversations_expiry", "conversations", ["kept", "updated_at"])
    op.create_table(
        "conversation_items",
        sa.Column("place", _SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("conversation_id", sa.String(64), nullable=False),
        sa.Column("item_id", sa.String(100), nullable=False),
        sa.Column("job_id", sa.String(36)),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    key = ["user_id", "conversation_id", "item_id"]
    op.create_index("conversation_items_key", "conversation_items", key, unique=True)


def downgrade() -> None:
    op.drop_table("conversation_items")
    op.drop_table("conversations")
