"""The tables of those who follow the journal: search, webhooks.  Part of ``schema.local``.

All of it is this node's own.  What search keeps can be made again from the catalog at any time.
"""

from __future__ import annotations

import sqlalchemy as sa

from store.schema import KEY, NAME, local

search_documents = sa.Table(  # what search finds: a version of a package, or a file without one
    "search_documents",
    local,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("repository", KEY, nullable=False),
    sa.Column("package", NAME, nullable=False),
    sa.Column("version", NAME, nullable=False),
    sa.Column("path", NAME, nullable=False),  # "" unless it stands for one file
    sa.Column("format", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("keywords", sa.Text, nullable=False),
    sa.Column("license", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("updated", sa.BigInteger, nullable=False),  # ledger time, milliseconds
    sa.Column("latest", sa.Boolean, nullable=False),  # of its package
    sa.Column("names", sa.Text, nullable=False),  # words, lower case, as they are matched
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("filenames", sa.Text, nullable=False),
    sa.Column("turn", sa.BigInteger, nullable=False),  # the rebuild that wrote it
    sa.Column("stamp", sa.BigInteger, nullable=False),  # grows with every change of the index
    sa.Column("gone", sa.Boolean, nullable=False),  # kept until other indices have heard of it
    sqlite_autoincrement=True,  # an id is never used again
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

search_digests = sa.Table(  # digests that the catalog has no index of
    "search_digests",
    local,
    sa.Column("digest", sa.String(140), primary_key=True),
    sa.Column("document", sa.BigInteger, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
)
sa.Index("search_digests_document", search_digests.c.document)

followers = sa.Table(  # how far those who follow the journal have read; JSON
    "followers",
    local,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

own_uses = sa.Table(  # what this node has counted, and how much of it the ledger says already
    "own_uses",
    local,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("version", NAME, primary_key=True),
    sa.Column("downloads", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Column("told", sa.Boolean, nullable=False),
)
sa.Index("own_uses_told", own_uses.c.told)

deliveries = sa.Table(  # events for the webhooks that this node owns
    "deliveries",
    local,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("webhook", KEY, nullable=False),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),  # pending | delivered | dead
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due", sa.Float, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),  # of the last answer; 0: none
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("ended", sa.Float, nullable=False),
    sqlite_autoincrement=True,  # an id is never used again
)
sa.Index("deliveries_due", deliveries.c.state, deliveries.c.due)
sa.Index("deliveries_webhook", deliveries.c.webhook, deliveries.c.state, deliveries.c.id)
