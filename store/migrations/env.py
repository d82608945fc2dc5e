"""Alembic's environment: run migrations on the connection that ``store.migrations`` hands over."""

from __future__ import annotations

from alembic import context

from store.migrations import METADATA, version_table

name: str = context.config.attributes["name"]
tables = METADATA[name].tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA[name],
    version_table=version_table(name),
    include_name=lambda found, kind, _: kind != "table" or found in tables,
    render_as_batch=True,  # SQLite changes a table by copying it
    transactional_ddl=True,  # the caller has begun, and commits all of it or nothing
)
with context.begin_transaction():
    context.run_migrations()
