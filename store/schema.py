"""The tables.  One schema for SQLite and PostgreSQL; migrations live in ``store/migrations``.

Two databases (design.md ruling 15): *facts* (ledger and catalog, synchronous=FULL) and *local*
(what this node can lose or rebuild: staged uploads, caches, the chunk index; synchronous=NORMAL).
They are never part of one transaction.  With PostgreSQL both live in the one configured database.
"""

from __future__ import annotations

import sqlalchemy as sa

facts = sa.MetaData()
local = sa.MetaData()

# Compared by bytes on both databases (SQLite always does): the catalog's pages are in byte order.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

# --- ledger -------------------------------------------------------------------------------------
records = sa.Table(
    "records",
    facts,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),  # SHA-256 of the header bytes
    sa.Column("author", sa.String(64), nullable=False),  # node id, hex
    sa.Column("incarnation", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),  # milliseconds << 16 | counter
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("scope", NAME, nullable=False),  # repository key, or "" for authority
    sa.Column("status", sa.String(12), nullable=False),  # valid | held | refused
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("header", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=True),  # None: withheld from a partial replica
    sa.UniqueConstraint("author", "incarnation", "seq"),
)
sa.Index("records_held", records.c.status, records.c.hlc)  # also: the newest timestamp
sa.Index("records_scope", records.c.scope, records.c.status, records.c.hlc)  # newest change

heads = sa.Table(  # signed chain heads; a range answer always ends on one
    "heads",
    facts,
    sa.Column("author", sa.String(64), primary_key=True),
    sa.Column("incarnation", sa.BigInteger, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("record", sa.LargeBinary(32), nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
    sa.Column("key", sa.LargeBinary(32), nullable=False),  # the public key that signed
)

forks = sa.Table(  # evidence: two signed headers of one author at one seq
    "forks",
    facts,
    sa.Column("author", sa.String(64), primary_key=True),
    sa.Column("incarnation", sa.BigInteger, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("evidence", sa.LargeBinary, nullable=False),
    sa.Column("noticed", sa.Float, nullable=False),
)

roots = sa.Table(  # every version of the root document we have seen
    "roots",
    facts,
    sa.Column("mesh", sa.String(64), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),
)

statements = sa.Table(  # rotations, admissions, and root documents that lack signatures
    "statements",
    facts,
    sa.Column("mesh", sa.String(64), primary_key=True),
    sa.Column("id", sa.LargeBinary(32), primary_key=True),  # SHA-256 of ``data``
    sa.Column("kind", sa.String(12), nullable=False),  # rotation | admission | proposal
    sa.Column("about", sa.String(64), nullable=False),  # node id, or a proposed document's id, hex
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("noticed", sa.Float, nullable=False),
)
sa.Index("statements_about", statements.c.about)

# --- catalog ------------------------------------------------------------------------------------
claims = sa.Table(  # every fact, keyed by its cell; the catalog tables are folded from these
    "claims",
    facts,
    sa.Column("cell", NAME, primary_key=True),  # fold.cell_key(fact)
    sa.Column("record", sa.LargeBinary(32), primary_key=True),
    sa.Column("ordinal", sa.Integer, primary_key=True),  # position of the fact, then of the file
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("fact", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,  # one tree in order of cells: read, written and kept together
)

files = sa.Table(
    "files",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("package", NAME, nullable=False),
    sa.Column("version", NAME, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("digest", sa.String(140), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("checksums", sa.Text, nullable=False),  # JSON
    sa.Column("metadata", sa.LargeBinary, nullable=False),
    sa.Column("metadata_digest", sa.String(140), nullable=False, default=""),
    sa.Column("manifest_id", sa.LargeBinary, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("record", sa.LargeBinary(32), nullable=False),
    sa.Column("author", sa.String(64), nullable=False),
    sa.Column("mutable", sa.Boolean, nullable=False),
    sa.Column("pending", sa.Boolean, nullable=False),
    sa.Column("conflicted", sa.Boolean, nullable=False),
    sa.Column("sha512", sa.String(128), nullable=False, default=""),  # hex, "" if unknown
)
sa.Index("files_package", files.c.repository, files.c.package, files.c.version)
sa.Index("files_digest", files.c.digest, files.c.repository)
sa.Index(
    "files_metadata",
    files.c.metadata_digest,
    sqlite_where=files.c.metadata_digest != "",
)
sa.Index(
    "files_sha512",
    files.c.sha512,
    files.c.repository,
    sqlite_where=files.c.sha512 != "",
)
sa.Index(
    "files_conflicted",
    files.c.repository,
    files.c.path,
    sqlite_where=sa.text("conflicted = 1"),  # as a query says it
)
sa.Index(  # what waits for its home's word
    "files_pending",
    files.c.repository,
    files.c.hlc,
    sqlite_where=files.c.pending,
)
# The index's condition as it is written there: "pending = 1", as SQLAlchemy would ask SQLite, is
# another one to it, and scans the table.
is_pending = sa.text("files.pending")

burnt = sa.Table(  # deleted coordinates, which only take the same bytes again
    "burnt",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("digest", sa.String(140), nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),  # ids of the tombstones, concatenated
)
sa.Index("burnt_hlc", burnt.c.hlc)  # what may still be restored

pointers = sa.Table(
    "pointers",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("siblings", sa.LargeBinary, nullable=False),  # msgpack array
    sa.Column("records", sa.LargeBinary, nullable=False),  # ids, concatenated
    sa.Column("hlc", sa.BigInteger, nullable=False),
)
# Whether a pointer names a blob: longer than any digest, so equal means whole.  Queries repeat it.
pointed = sa.func.substr(pointers.c.value, sa.literal_column("1"), sa.literal_column("141"))
sa.Index("pointers_digest", pointed)
# Whether a pointer was moved concurrently: longer than an empty msgpack array.
has_siblings = sa.text("length(siblings) > 1")
sa.Index(
    "pointers_siblings",
    pointers.c.repository,
    pointers.c.package,
    pointers.c.name,
    sqlite_where=has_siblings,
)

flags = sa.Table(
    "flags",
    facts,
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
    facts,
    sa.Column("kind", sa.String(64), primary_key=True),
    sa.Column("key", NAME, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)

packages = sa.Table(  # one row per package that has a visible file or pointer; counted by the fold
    "packages",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("hlc", sa.BigInteger, nullable=False),
)

uses = sa.Table(  # how often each node says that it has sent a version of what is listed
    "uses",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("version", NAME, primary_key=True),
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("downloads", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Column("hlc", sa.BigInteger, nullable=False),
)

unlisted = sa.Table(  # who counted packages that are gone: their uses are claims without rows
    "unlisted",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("node", sa.String(64), primary_key=True),
)

former = sa.Table(  # packages of deleted files: their names stay the repository's.  Only grows
    "former",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
)

journal = sa.Table(  # what each commit changed, in the order of commits on this node
    "journal",
    facts,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),  # of its last
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),  # store.journal.Entry, as many as counted
)

totals = sa.Table(  # what the package rows of a repository come to, if it has any file
    "totals",
    facts,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
)

# --- local --------------------------------------------------------------------------------------
staged = sa.Table(  # ingested, not yet published: OCI blobs before their manifest, dput queues
    "staged",
    local,
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

chunks = sa.Table(  # where the bytes of a chunk already lie on this disk
    "chunks",
    local,
    sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("blob", sa.LargeBinary(32), primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.Integer, nullable=False),
)
sa.Index("chunks_blob", chunks.c.blob)

manifests = sa.Table(  # chunk manifests of complete local blobs
    "manifests",
    local,
    sa.Column("blob", sa.LargeBinary(32), primary_key=True),
    sa.Column("id", sa.LargeBinary(32), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("encoded", sa.LargeBinary, nullable=False),
)

aliases = sa.Table(  # other digests of local blobs (sha512, sha1, md5, …)
    "aliases",
    local,
    sa.Column("algorithm", sa.String(16), primary_key=True),
    sa.Column("hex", sa.String(128), primary_key=True),
    sa.Column("blob", sa.LargeBinary(32), nullable=False),
)

audit = sa.Table(  # who tried what; writes that succeeded are also in the ledger
    "audit",
    local,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sqlite_autoincrement=True,  # an id is never used again
)
sa.Index("audit_at", audit.c.at)

peers = sa.Table(  # what we learnt of each peer: addresses, link profile, strikes
    "peers",
    local,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),  # JSON
    sa.Column("updated", sa.Float, nullable=False),
)

inventory = sa.Table(  # every blob that the catalog names or this node holds, and what is due to it
    "inventory",
    local,
    sa.Column("blob", sa.LargeBinary(32), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),  # 0: unknown
    sa.Column("rule", sa.Text, nullable=False),  # what asks for copies anywhere, "" if nothing does
    sa.Column("turn", sa.BigInteger, nullable=False),  # the walk that saw it last; 0: unnamed
    sa.Column("wanted", sa.Boolean, nullable=False),  # here
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("due", sa.Float, nullable=True),  # when time alone may change the placement
    sa.Column("used", sa.Float, nullable=False),  # when it was read last, or came
    sa.Column("reads", sa.Float, nullable=False),  # as of ``used``, halved every day
)
sa.Index(
    "inventory_missing",
    inventory.c.blob,
    sqlite_where=sa.text("wanted = 1 AND held = 0"),
)
sa.Index(  # what may be evicted, in that order
    "inventory_spare",
    inventory.c.used,
    sqlite_where=sa.text("wanted = 0 AND held = 1 AND turn > 0"),
)
sa.Index("inventory_due", inventory.c.due)
sa.Index("inventory_turn", inventory.c.turn)

peer_blobs = sa.Table(  # what members say they hold: sorted 4-byte ids after a digest's first byte
    "peer_blobs",
    local,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("ids", sa.LargeBinary, nullable=False),
)

peer_holdings = sa.Table(  # how far we have heard each member
    "peer_holdings",
    local,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("report", sa.LargeBinary, nullable=False),  # its own tallies, JSON
    sa.Column("heard", sa.Float, nullable=False),
)

promised = sa.Table(  # what upstream indices too large for memory say of files not fetched yet
    "promised",
    local,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("path", NAME, primary_key=True),
    sa.Column("source", NAME, primary_key=True),  # the path of the index
    sa.Column("algorithm", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),  # -1: not said
)
sa.Index("promised_source", promised.c.repository, promised.c.source)

# The same conditions for PostgreSQL, which ``store.postgresql`` puts in their place: as arguments
# above they would import its dialect, a tenth of a second of every node's start.
POSTGRESQL_WHERE: dict[str, sa.ColumnElement[bool] | sa.TextClause] = {
    "files_metadata": files.c.metadata_digest != "",
    "files_sha512": files.c.sha512 != "",
    "files_conflicted": files.c.conflicted,
    "files_pending": files.c.pending,
    "pointers_siblings": has_siblings,
    "inventory_missing": sa.text("wanted AND NOT held"),
    "inventory_spare": sa.text("NOT wanted AND held AND turn > 0"),
}
