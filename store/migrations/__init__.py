"""Migrations of both databases, by Alembic.

``facts/`` and ``local/`` each hold a line of revisions; each database remembers its own in
``alembic_version_<name>``, so that both may lie in one PostgreSQL database.  Alembic is imported
only when there is something to do: it costs a third of a second of a node's start.

A change to ``store.schema`` needs a revision: ``python -m store.migrations NAME "what changed"``
writes a draft.  tests/store/test_migrations.py compares the two and runs every step.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from store import schema, schema_followers
from store.errors import UnavailableError

if TYPE_CHECKING:
    from alembic.config import Config

HEADS = {"facts": "facts0008", "local": "local0006"}  # what the newest revisions are called
REGISTERED = (schema_followers,)  # imported for the tables that it adds to the local database
METADATA = {"facts": schema.facts, "local": schema.local}


def version_table(name: str) -> str:
    """Return the name of the table that remembers the revision."""
    return f"alembic_version_{name}"


def current(connection: sa.Connection, name: str) -> str | None:
    """Return the revision a database stands at, or None for an empty one."""
    if not sa.inspect(connection).has_table(version_table(name)):
        return None
    version = sa.table(version_table(name), sa.column("version_num"))
    found: str | None = connection.execute(sa.select(version.c.version_num)).scalar()
    return found


def upgrade(connection: sa.Connection, name: str) -> None:
    """Bring a database to its head, inside the caller's transaction.

    Raises UnavailableError when a newer program has migrated it beyond what this one knows.
    """
    standing = current(connection, name)
    if standing == HEADS[name]:
        return
    if (
        standing is None
        and connection.dialect.name == "sqlite"
        and not sa.inspect(connection).get_table_names()
    ):
        _create(connection, name)
        return
    from alembic import command
    from alembic.util.exc import CommandError

    try:
        command.upgrade(configuration(connection, name), "head")
    except CommandError as error:
        raise UnavailableError(f"the {name} database fits another version: {error}") from error


def _create(connection: sa.Connection, name: str) -> None:
    """Make the newest tables at once in a new SQLite file, as all revisions together would."""
    METADATA[name].create_all(connection, checkfirst=False)
    table = version_table(name)
    version = sa.Table(  # as Alembic makes it
        table, sa.MetaData(), sa.Column("version_num", sa.String(32), nullable=False)
    )
    version.append_constraint(sa.PrimaryKeyConstraint(version.c.version_num, name=f"{table}_pkc"))
    version.create(connection, checkfirst=False)
    connection.execute(version.insert().values(version_num=HEADS[name]))


def configuration(connection: sa.Connection, name: str) -> Config:
    """Return Alembic's settings for one database; there is no alembic.ini."""
    from alembic.config import Config

    folder = Path(__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(folder / name).replace("%", "%%"))
    config.attributes.update(connection=connection, name=name)
    return config
