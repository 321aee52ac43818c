"""Whether a run was imported; unknown for older runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two empty columns."""
    op.add_column("run", sa.Column("imported", sa.Boolean(), nullable=True))
    op.add_column("run", sa.Column("imported_at", sa.Text(), nullable=True))
