"""Packages of deleted files, whose names are not given away.

Revision: facts0007, after facts0006.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "facts0007"
down_revision = "facts0006"
branch_labels = None
depends_on = None

PAGE = 500  # coordinates looked at together
# Compared by bytes on both databases.
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

tables = sa.MetaData()
former = sa.Table(
    "former",
    tables,
    sa.Column("repository", KEY, primary_key=True),
    sa.Column("package", NAME, primary_key=True),
)
burnt = sa.table("burnt", sa.column("repository", KEY), sa.column("path", NAME))
claims = sa.table("claims", sa.column("cell", NAME), sa.column("fact", sa.LargeBinary))


def upgrade() -> None:
    """Create it, and read what was deleted so far off the claims."""
    from store import fold, records
    from store.facts import Publish

    connection = op.get_bind()
    tables.create_all(connection, checkfirst=False)
    found: set[tuple[str, str]] = set()
    last: Any = ("", "")
    query = sa.select(burnt).order_by(burnt.c.repository, burnt.c.path).limit(PAGE)
    while rows := connection.execute(
        query.where(sa.tuple_(burnt.c.repository, burnt.c.path) > sa.tuple_(*last))
    ).all():
        last = tuple(rows[-1])
        cells = [fold.file_cell(*row) for row in rows]
        asked = sa.select(claims.c.fact).where(claims.c.cell.in_(cells))
        for fact in map(records.read_fact, connection.execute(asked).scalars()):
            if isinstance(fact, Publish):
                found.add((fact.repository, fact.package))
    if found:
        names = [{"repository": r, "package": p} for r, p in sorted(found)]
        connection.execute(sa.insert(former), names)


def downgrade() -> None:
    """Drop it."""
    tables.drop_all(op.get_bind(), checkfirst=False)
