"""Distance to target, from tallies."""

from __future__ import annotations

import msgspec

from node.placement.report import REST, RULES_MAX, Amount, distance, read_distance
from store.inventory import CACHED, HELD, SURPLUS, WANTED, Tally


def tally(**rules: dict[str, int]) -> Tally:
    found = Tally()
    for rule, kinds in rules.items():
        for kind, blobs in kinds.items():
            found.blobs[rule, kind] = blobs
            found.bytes[rule, kind] = blobs * 100
    return found


def test_what_is_missing_and_when_it_would_be_here() -> None:
    counted = tally(a={WANTED: 5, HELD: 2, SURPLUS: 1}, b={WANTED: 1, HELD: 1})
    counted.blobs["", CACHED] = 7
    found = distance(counted, speed=50.0, now=9.0)
    assert [(each.rule, each.missing.blobs) for each in found.rules] == [("a", 3), ("b", 0)]
    assert found.missing == Amount(3, 300)
    assert found.eta == 6.0
    assert found.cached.blobs == 7
    assert distance(counted, speed=0.0, now=9.0).eta is None
    assert distance(tally(b={WANTED: 1, HELD: 1}), speed=50.0, now=9.0).eta is None


def test_members_understand_each_other_and_no_nonsense() -> None:
    found = distance(tally(a={WANTED: 5}), speed=1.0, now=2.0)
    assert read_distance(msgspec.json.encode(found)) == found
    assert read_distance(b"") is None
    assert read_distance(b'{"rules": 7}') is None


def test_many_rules_are_told_in_bounded_space() -> None:
    counted = tally(**{f"r{n:03}": {WANTED: 2, HELD: 1} for n in range(RULES_MAX + 10)})
    found = distance(counted, speed=0.0, now=0.0)
    assert len(found.rules) == RULES_MAX + 1
    assert found.rules[-1].rule == REST
    assert found.rules[-1].missing.blobs == 10
    assert found.missing.blobs == RULES_MAX + 10
