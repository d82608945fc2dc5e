"""How often versions were sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0006"
down_revision = "facts0005"
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()

sa.Table(
    "uses",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("version", NAME, primary_key=True),
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("downloads", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)


def upgrade() -> None:
    """Create it."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop it."""
    tables.drop_all(op.get_bind(), checkfirst=False)
