"""The first tables of the local database, as they were: ``store.schema`` has moved on since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "local0001"
down_revision = None
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()

staged = sa.Table(
    "staged",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("digest", sa.String(140), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checksums", sa.Text, nullable=False),
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
)
sa.Index("staged_digest", staged.c.digest)

chunks = sa.Table(
    "chunks",
    tables,
    sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("blob", sa.LargeBinary(32), primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.Integer, nullable=False),
)
sa.Index("chunks_blob", chunks.c.blob)

manifests = sa.Table(
    "manifests",
    tables,
    sa.Column("blob", sa.LargeBinary(32), primary_key=True),
    sa.Column("id", sa.LargeBinary(32), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("encoded", sa.LargeBinary, nullable=False),
)

aliases = sa.Table(
    "aliases",
    tables,
    sa.Column("algorithm", sa.String(16), primary_key=True),
    sa.Column("hex", sa.String(128), primary_key=True),
    sa.Column("blob", sa.LargeBinary(32), nullable=False),
)

audit = sa.Table(
    "audit",
    tables,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("audit_at", audit.c.at)

peers = sa.Table(
    "peers",
    tables,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
)


def upgrade() -> None:
    """Create them."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop them."""
    tables.drop_all(op.get_bind(), checkfirst=False)
