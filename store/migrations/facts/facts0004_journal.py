"""What each commit changed, for those who follow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0004"
down_revision = "facts0003"
branch_labels = None
depends_on = None

tables = sa.MetaData()

sa.Table(
    "journal",
    tables,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


def upgrade() -> None:
    """Create it."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop it."""
    tables.drop_all(op.get_bind(), checkfirst=False)
