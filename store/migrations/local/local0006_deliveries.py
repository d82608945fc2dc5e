"""Events for webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "local0006"
down_revision = "local0005"
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()

deliveries = sa.Table(
    "deliveries",
    tables,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("webhook", KEY, nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Float, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("deliveries_due", deliveries.c.state, deliveries.c.due)
sa.Index("deliveries_webhook", deliveries.c.webhook, deliveries.c.state, deliveries.c.id)


def upgrade() -> None:
    """Create it."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop it."""
    tables.drop_all(op.get_bind(), checkfirst=False)
