"""The first tables of the facts database, as they were: ``store.schema`` has moved on since."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0001"
down_revision = None
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()

records = sa.Table(
    "records",
    tables,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("incarnation", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("scope", NAME, nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("header", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=True),
    sa.UniqueConstraint("author", "incarnation", "seq"),
)
sa.Index("records_held", records.c.status, records.c.hlc)
sa.Index("records_scope", records.c.scope, records.c.status, records.c.hlc)

heads = sa.Table(
    "heads",
    tables,
    sa.Column("author", sa.String(64), primary_key=True),
    sa.Column("incarnation", sa.BigInteger, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("record", sa.LargeBinary(32), nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
    sa.Column("key", sa.LargeBinary(32), nullable=False),
)

forks = sa.Table(
    "forks",
    tables,
    sa.Column("author", sa.String(64), primary_key=True),
    sa.Column("incarnation", sa.BigInteger, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("evidence", sa.LargeBinary, nullable=False),
    sa.Column("noticed", sa.Float, nullable=False),
)

roots = sa.Table(
    "roots",
    tables,
    sa.Column("mesh", sa.String(64), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
)

claims = sa.Table(
    "claims",
    tables,
    sa.Column("cell", NAME, primary_key=True),
    sa.Column("record", sa.LargeBinary(32), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("fact", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

files = sa.Table(
    "files",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("package", NAME, nullable=False),
    sa.Column("version", NAME, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("digest", sa.String(140), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checksums", sa.Text, nullable=False),
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    sa.Column("metadata_digest", sa.String(140), nullable=False, default=""),
    sa.Column("manifest_id", sa.LargeBinary, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("record", sa.LargeBinary(32), nullable=False),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("mutable", sa.Boolean, nullable=False),
    sa.Column("pending", sa.Boolean, nullable=False),
    sa.Column("conflicted", sa.Boolean, nullable=False),
    sa.Column("sha512", sa.String(128), nullable=False, default=""),
)
sa.Index("files_package", files.c.repository, files.c.package, files.c.version)
sa.Index("files_digest", files.c.digest, files.c.repository)
sa.Index(
    "files_metadata",
    files.c.metadata_digest,
    sqlite_where=files.c.metadata_digest != "",
    postgresql_where=files.c.metadata_digest != "",
)
sa.Index(
    "files_sha512",
    files.c.sha512,
    files.c.repository,
    sqlite_where=files.c.sha512 != "",
    postgresql_where=files.c.sha512 != "",
)
sa.Index(
    "files_conflicted",
    files.c.repository,
    files.c.path,
    sqlite_where=sa.text("conflicted = 1"),
    postgresql_where=files.c.conflicted,
)
sa.Index(  # what waits for its home's word
    "files_pending",
    files.c.repository,
    files.c.hlc,
    sqlite_where=files.c.pending,
    postgresql_where=files.c.pending,
)

burnt = sa.Table(
    "burnt",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("digest", sa.String(140), nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),
)
sa.Index("burnt_hlc", burnt.c.hlc)

pointers = sa.Table(
    "pointers",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("siblings", sa.LargeBinary, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)
pointed = sa.func.substr(pointers.c.value, sa.literal_column("1"), sa.literal_column("141"))
sa.Index("pointers_digest", pointed)

flags = sa.Table(
    "flags",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("version", NAME, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)

settings = sa.Table(
    "settings",
    tables,
    sa.Column("kind", sa.String(64), primary_key=True),
    sa.Column("key", NAME, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)

packages = sa.Table(
    "packages",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)


def upgrade() -> None:
    """Create them."""
    tables.create_all(op.get_bind(), checkfirst=False)


def downgrade() -> None:
    """Drop them."""
    tables.drop_all(op.get_bind(), checkfirst=False)
