"""Intervals of layers; unknown for older runs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two empty columns."""
    for name in ("low_us", "high_us"):
        op.add_column("layer", sa.Column(name, sa.Double(), nullable=True))
