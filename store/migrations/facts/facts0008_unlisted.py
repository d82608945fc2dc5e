"""No uses of packages that are gone; they are noted, so that theirs come back with them.

Revision: facts0008, after facts0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0008"
down_revision = "facts0007"
branch_labels = None
depends_on = None

# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()
unlisted = sa.Table(
    "unlisted",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
    sa.Column("node", sa.String(64), primary_key=True),
)
uses = sa.table(
    "uses",
    sa.column("repository", KEY),
    sa.column("package", NAME),
    sa.column("node", sa.String(64)),
)
packages = sa.table("packages", sa.column("repository", KEY), sa.column("package", NAME))


def upgrade() -> None:
    """Create it, and move there what is gone."""
    connection = op.get_bind()
    tables.create_all(connection, checkfirst=False)
    there = sa.exists().where(
        packages.c.repository == uses.c.repository, packages.c.package == uses.c.package
    )
    gone = sa.select(uses.c.repository, uses.c.package, uses.c.node).where(~there).distinct()
    connection.execute(sa.insert(unlisted).from_select(["repository", "package", "node"], gone))
    connection.execute(sa.delete(uses).where(~there))


def downgrade() -> None:
    """Drop it.  The rows come back with the next records about these packages."""
    tables.drop_all(op.get_bind(), checkfirst=False)
