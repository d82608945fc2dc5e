"""Holdings as a sequence: whoever was away hears what it missed, or everything."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from mesh import advert as module
from mesh.advert import ID, Advert, pages
from mesh.copies import IDS_MAX


def blob(index: int) -> bytes:
    return hashlib.sha256(b"%d" % index).digest()


def taken(held: set[bytes], deltas) -> set[bytes]:
    for delta in deltas:
        held |= {delta.added[at : at + ID] for at in range(0, len(delta.added), ID)}
        held -= {delta.removed[at : at + ID] for at in range(0, len(delta.removed), ID)}
    return held


changes = st.lists(st.dictionaries(st.integers(0, 30), st.booleans(), max_size=6), max_size=12)


@given(changes, st.integers(0, 12))
def test_the_sum_of_changes_is_the_same_whenever_one_was_away(
    steps: list[dict[int, bool]], away: int
) -> None:
    advert, heard, late = Advert(7), set[bytes](), set[bytes]()
    known = 0
    for index, step in enumerate(steps):
        told = advert.moved({blob(n): came for n, came in step.items()})
        taken(heard, told)
        if index < away:
            taken(late, told)
            known = advert.seq
    missed = advert.since(7, known)
    assert missed is not None
    assert taken(late, missed) == heard


def test_who_knows_another_epoch_or_too_little_is_told_everything(monkeypatch) -> None:
    monkeypatch.setattr(module, "LOG_MAX", 4)
    advert = Advert(7)
    for n in range(6):
        advert.moved({blob(n): True})
    assert advert.since(8, 6) is None
    assert advert.since(7, 1) is None
    assert advert.since(7, 99) is None
    assert advert.since(7, 6) == []
    assert sum(len(each.added) for each in advert.since(7, 3) or []) == 3 * ID


def test_long_changes_and_shards_come_in_pieces() -> None:
    many = {blob(n): True for n in range(IDS_MAX + 5)}
    first, second = Advert(1).moved(many)
    assert (first.after, first.seq, second.seq) == (0, IDS_MAX, IDS_MAX + 5)
    suffixes = [each[1:ID] for each in many]
    assert [page.piece for page in pages(3, suffixes)] == [0, 1]
    (empty,) = pages(4, [])
    assert empty.suffixes == b""
