"""What is placed where: this node's inventory, and what members say they hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "local0002"
down_revision = "local0001"
branch_labels = None
depends_on = None

tables = sa.MetaData()

inventory = sa.Table(
    "inventory",
    tables,
    sa.Column("blob", sa.LargeBinary(32), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.Column("wanted", sa.Boolean, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("due", sa.Float, nullable=True),
    sa.Column("used", sa.Float, nullable=False),
    sa.Column("reads", sa.Float, nullable=False),
)
sa.Index(
    "inventory_missing",
    inventory.c.blob,
    sqlite_where=sa.text("wanted = 1 AND held = 0"),
    postgresql_where=sa.text("wanted AND NOT held"),
)
sa.Index(
    "inventory_spare",
    inventory.c.used,
    sqlite_where=sa.text("wanted = 0 AND held = 1 AND turn > 0"),
    postgresql_where=sa.text("NOT wanted AND held AND turn > 0"),
)
sa.Index("inventory_due", inventory.c.due)
sa.Index("inventory_turn", inventory.c.turn)

sa.Table(
    "peer_blobs",
    tables,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("ids", sa.LargeBinary, nullable=False),
)

sa.Table(
    "peer_holdings",
    tables,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("report", sa.LargeBinary, nullable=False),
    sa.Column("heard", sa.Float, nullable=False),
)


def upgrade() -> None:
    """Create them."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop them."""
    tables.drop_all(op.get_bind(), checkfirst=False)
