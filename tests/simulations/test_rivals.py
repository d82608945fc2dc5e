"""Conflicts by plain example."""

from __future__ import annotations

from typing import Any

from simulations.rivals import DELETE, POINT, PUBLISH, RESOLVE, RESTORE, Said, disputed, divided


def said(number: int, *fact: Any) -> Said:
    record = bytes([number]) * 32
    return Said(record, (number, "author", record), list(fact))


def seen(*numbers: int) -> list[bytes]:
    return [bytes([number]) * 32 for number in numbers]


ONE, TWO = said(1, PUBLISH, "sha256:a"), said(2, PUBLISH, "sha256:b")


def test_other_bytes_at_one_place_are_a_conflict_until_they_are_decided() -> None:
    assert not disputed([ONE])
    assert not disputed([ONE, said(2, PUBLISH, "sha256:a")])
    assert disputed([ONE, TWO])
    decided = said(3, RESOLVE, "r", "p", "sha256:a", seen(1, 2))
    assert not disputed([ONE, TWO, decided])
    assert disputed([ONE, TWO, decided, said(4, PUBLISH, "sha256:c")])


def test_what_was_deleted_is_no_rival_but_binds_the_place() -> None:
    gone = said(3, DELETE, "r", "p", seen(2))
    assert disputed([ONE, TWO, gone])
    assert not disputed([ONE, TWO, said(3, DELETE, "r", "p", seen(1, 2))])
    assert not disputed([ONE, said(3, DELETE, "r", "p", seen(1))])
    assert disputed([ONE, TWO, gone, said(4, RESTORE, "r", "p", seen(3))])


def test_pointers_are_divided_while_nobody_has_seen_both() -> None:
    one, two = said(1, POINT, "r", "p", "n", b"1", []), said(2, POINT, "r", "p", "n", b"2", [])
    assert divided([one, two])
    assert not divided([one, said(2, POINT, "r", "p", "n", b"1", [])])
    assert not divided([one, two, said(3, POINT, "r", "p", "n", b"3", seen(1, 2))])
    removed = said(3, POINT, "r", "p", "n", None, [])
    assert divided([one, removed])
    assert not divided([one, said(3, POINT, "r", "p", "n", None, seen(1))])
