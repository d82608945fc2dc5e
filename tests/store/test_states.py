"""Rows of cells: in the order of their tables' columns, and the same for the same state."""

from __future__ import annotations

import msgspec

from store import fold, states
from store.catalog_rows import ids, siblings_of
from store.facts import Delete, File, Flag, Point, Publish, Setting
from store.fold import Claim, FileState
from tests.store.ledgers import file, publish

RECORD = b"r" * 32


def named(kind: str, row: states.Row) -> dict[str, object]:
    return dict(zip(states.TABLES[kind].columns.keys(), row, strict=True))


def claim(fact: object, hlc: int = 7) -> Claim:
    return Claim(RECORD, 0, hlc, "a" * 64, fact)


def test_a_file_row_names_what_won() -> None:
    sums = (("sha512", "b" * 128), ("md5", "0" * 32))
    fact = Publish("r", "p", "1", (file("a/b", "xyz", checksums=sums, metadata=b"{}"),))
    row = states.file_row(FileState(claim(fact), pending=True))
    assert row is not None
    found = named(fold.FILE, row)
    assert (found["repository"], found["path"], found["package"]) == ("r", "a/b", "p")
    assert (found["size"], found["hlc"], found["record"]) == (3, 7, RECORD)
    assert (found["pending"], found["conflicted"], found["mutable"]) == (True, False, False)
    assert found["sha512"] == "b" * 128
    assert found["checksums"] == '{"md5":"' + "0" * 32 + '","sha512":"' + "b" * 128 + '"}'
    assert states.file_row(FileState(None)) is None


def test_a_sha512_digest_is_found_as_one() -> None:
    fact = Publish("r", "p", "1", (File("a", "file", "sha512:" + "c" * 128, 1),))
    row = states.file_row(FileState(claim(fact)))
    assert row is not None
    assert named(fold.FILE, row)["sha512"] == "c" * 128
    assert named(fold.FILE, row)["checksums"] == "{}"


def test_burnt_rows_only_for_what_was_deleted() -> None:
    assert states.burnt_row(FileState(None), ("r", "a")) is None
    gone = FileState(None, burnt="sha256:00", tombstones=(RECORD,), hlc=9)
    assert states.burnt_row(gone, ("r", "a")) == ("r", "a", "sha256:00", 9, RECORD)


def test_register_rows_carry_what_the_next_write_supersedes() -> None:
    first, second = (
        claim(Point("r", "p", "n", b"1")),
        claim(Point("r", "p", "n", b"2"))._replace(record=b"s" * 32, hlc=8),
    )
    state = fold.resolve_pointer([first, second])
    row = states.register_row(fold.POINTER, state, ("r", "p", "n"))
    assert row is not None
    found = named(fold.POINTER, row)
    assert (found["value"], found["hlc"]) == (b"2", 8)
    assert ids(found["records"]) == (RECORD, b"s" * 32)  # type: ignore[arg-type]  # what the states hold is known here
    assert siblings_of(found["siblings"]) == (b"1",)  # type: ignore[arg-type]  # what the states hold is known here
    removed = fold.resolve_pointer([claim(Point("r", "p", "n", None))])
    assert states.register_row(fold.POINTER, removed, ("r", "p", "n")) is None


def test_keys_are_those_of_the_tables() -> None:
    assert states.key_of(fold.FILE, publish("a")) == ("generic", "a")
    assert states.key_of(fold.FILE, Delete("r", "a", ())) == ("r", "a")
    assert states.key_of(fold.FLAG, Flag("r", "p", "1", "x", "n", None)) == (
        "r",
        "p",
        "1",
        "x",
        "n",
    )
    assert states.key_of(fold.SETTING, Setting("user", "u", None)) == ("user", "u")
    for kind, names in states.KEYS.items():
        assert tuple(states.TABLES[kind].columns.keys())[: len(names)] == names
    assert msgspec.json.decode(states.NO_CHECKSUMS) == {}
