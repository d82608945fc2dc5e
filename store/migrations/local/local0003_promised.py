"""What upstream indices say of files that were not fetched yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "local0003"
down_revision = "local0002"
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()

promised = sa.Table(
    "promised",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("source", NAME, primary_key=True),
    sa.Column("algorithm", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)
sa.Index("promised_source", promised.c.repository, promised.c.source)


def upgrade() -> None:
    """Create them."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop them."""
    tables.drop_all(op.get_bind(), checkfirst=False)
