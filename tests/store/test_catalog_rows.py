"""Rows become values."""

from __future__ import annotations

import sqlalchemy as sa

from store import catalog_rows, schema
from store.digest import Digest
from tests.store.catalogs import RECORD, digest, file


def row(columns: dict[str, object]) -> sa.Row[object]:
    """Give a row that was read from a database."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        values = (
            sa.literal(value, schema.files.c[name].type).label(name)
            for name, value in columns.items()
        )
        found = connection.execute(sa.select(*values)).one()
    engine.dispose()
    return found


def test_metadata_is_inline_or_named() -> None:
    inline = catalog_rows.artifact(row(file("r", "p", "1", "a", metadata=b"{}")))
    assert (inline.metadata, inline.metadata_digest) == (b"{}", None)
    named = file("r", "p", "1", "a", metadata=b"", metadata_digest=str(digest("m")))
    assert catalog_rows.artifact(row(named)).metadata_digest == digest("m")


def test_a_digest_is_always_among_the_checksums() -> None:
    long = Digest("sha512", "5" * 128)
    assert catalog_rows.checksums("", digest("a")) == {"sha256": digest("a").hex}
    assert catalog_rows.checksums("{}", long) == {"sha512": long.hex}
    assert catalog_rows.checksums('{"sha256":"given"}', digest("a")) == {"sha256": "given"}


def test_record_ids_are_cut_apart() -> None:
    assert catalog_rows.ids(b"") == ()
    assert catalog_rows.ids(RECORD + b"s" * 32) == (RECORD, b"s" * 32)
