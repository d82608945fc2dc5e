"""Rows become values."""

from __future__ import annotations

import sqlalchemy as sa

from store import catalog_rows, schema
from store.digest import Digest
from store.rows import PackageRow
from tests.store.catalogs import RECORD, digest, file


def row(columns: dict[str, object]) -> sa.Row[object]:
    """Give a row that was read from a database."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        values = (
            sa.literal(columns[column.name], column.type).label(column.name)
            for column in schema.files.columns
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


def test_every_column_ends_in_its_own_place() -> None:
    columns = file("r", "p", "1", "a", metadata=b"{}", metadata_digest=str(digest("m")))
    columns |= {"role": "wheel", "size": 7, "checksums": '{"md5":"5"}', "hlc": 2000 << 16}
    columns |= {"manifest_id": b"i", "record": RECORD, "author": "x", "sha512": "5" * 128}
    columns |= {"mutable": True, "pending": False, "conflicted": True}
    found = catalog_rows.artifact(row(columns))
    same = ("repository", "package", "version", "path", "role", "size", "metadata", "manifest_id")
    for name in (*same, "record", "author", "mutable", "pending", "conflicted"):
        assert getattr(found, name) == columns[name], name
    assert str(found.digest) == columns["digest"]
    assert found.metadata_digest == digest("m")
    assert found.checksums == {"md5": "5", "sha256": found.digest.hex}
    assert found.published == 2.0


def test_packages_are_taken_apart_in_the_order_of_their_columns() -> None:
    values = {"repository": "r", "package": "p", "files": 3, "size": 9, "hlc": 2000 << 16}
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        columns = schema.packages.columns
        query = sa.select(*(sa.literal(values[c.name], c.type).label(c.name) for c in columns))
        found = catalog_rows.package(connection.execute(query).one())
    engine.dispose()
    assert found == PackageRow("r", "p", 3, 9, 2.0)
