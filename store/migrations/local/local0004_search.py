"""What search finds, and how far those who follow the journal have read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "local0004"
down_revision = "local0003"
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()

search_documents = sa.Table(
    "search_documents",
    tables,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("repository", KEY, nullable=False),
    sa.Column("package", NAME, nullable=False),
    sa.Column("version", NAME, nullable=False),
    sa.Column("path", NAME, nullable=False),
    sa.Column("format", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("keywords", sa.Text, nullable=False),
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),
    sa.Column("latest", sa.Boolean, nullable=False),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("filenames", sa.Text, nullable=False),
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.Column("stamp", sa.BigInteger, nullable=False),
    sa.Column("gone", sa.Boolean, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index(
    "search_documents_key",
    search_documents.c.repository,
    search_documents.c.package,
    search_documents.c.version,
    search_documents.c.path,
    unique=True,
)
sa.Index(
    "search_documents_newest",
    search_documents.c.repository,
    search_documents.c.package,
    search_documents.c.updated,
)
sa.Index(
    "search_documents_latest",
    search_documents.c.repository,
    search_documents.c.package,
    search_documents.c.latest,
)
sa.Index("search_documents_stamp", search_documents.c.stamp)
sa.Index("search_documents_turn", search_documents.c.turn)
sa.Index("search_documents_updated", search_documents.c.updated)

search_digests = sa.Table(
    "search_digests",
    tables,
    sa.Column("digest", sa.String(140), primary_key=True),
    sa.Column("document", sa.BigInteger, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
)
sa.Index("search_digests_document", search_digests.c.document)

followers = sa.Table(
    "followers",
    tables,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def upgrade() -> None:
    """Create them."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop them, with what full-text search has made beside them."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE IF EXISTS search_text")
    tables.drop_all(op.get_bind(), checkfirst=False)
