"""The id of the deployment whose database this is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deployment",
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("deployment_id", sa.String(36), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("deployment")
