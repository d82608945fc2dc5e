"""Rules for links: read strictly, merged by nearness, obeyed by whoever plans."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.beliefs import PeerBelief
from mesh.limits import BURST, FREE, RULES_MAX, Bucket, Limits, parse, parse_all, rate_of
from mesh.scheduler import Blob, plan
from store.errors import RejectedError

NODE = bytes.fromhex("ab12" + "00" * 30)
HOUR = 3600.0


def limits(*rules: str) -> Limits:
    found = Limits()
    found.set(parse_all(rules))
    return found


def test_the_nearest_rule_decides_field_by_field() -> None:
    found = limits(
        "* up=1MB cost=1", "site:ship metered down=2Mbit", "node:ab12 up=8kbit unmetered"
    )
    terms = found.terms(NODE, "ship")
    assert terms.up is not None
    assert terms.down is not None
    assert (terms.up.rate, terms.down.rate) == (1000, 250_000)
    assert (terms.metered, terms.cost) == (False, 1.0)
    other = found.terms(bytes(32), "ship")
    assert other.metered
    assert other.up is not None
    assert other.up.rate == 1e6
    assert found.terms(bytes(32), "quay").down is None
    assert Limits().terms(NODE, "ship") is FREE


def test_nodes_of_a_site_share_what_it_may_carry() -> None:
    found = limits("site:ship up=1MB")
    assert found.terms(NODE, "ship").up is found.terms(bytes(32), "ship").up


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ship up=1MB",
        "site: up=1MB",
        "site:ship",
        "node:xyz up=1MB",
        "* up=1",
        "* up=1XB",
        "* up=-5",
        "* up=1MB up=2MB",
        "* metered unmetered",
        "* cost=nan",
        "* cost=-1",
        "* hours=25:00-26:00",
        "* hours=12:00-12:00",
        "* hours=12:00-24:30",
        "* speed=9",
        "*" + " cost=1" * 100,
    ],
)
def test_rules_that_say_nothing_sensible_are_refused(text: str) -> None:
    with pytest.raises(RejectedError):
        parse(text)


def test_the_number_of_rules_is_bounded() -> None:
    with pytest.raises(RejectedError):
        parse_all(["* cost=1"] * (RULES_MAX + 1))


def test_a_rule_reads_back_as_itself() -> None:
    for text in ("* up=1kB metered", "node:abcd cost=2.5 hours=22:00-06:00/12:00-13:30"):
        assert parse(str(parse(text))) == parse(text)
    assert rate_of("2Mbit/s") == 250_000


def test_what_nobody_waits_for_has_its_hours() -> None:
    night = limits("* hours=22:00-06:00/12:00-13:00").terms(NODE, "")
    allowed = [hour for hour in range(24) if night.background(hour * HOUR)]
    assert allowed == [0, 1, 2, 3, 4, 5, 12, 22, 23]
    assert not limits("* metered").terms(NODE, "").background(0.0)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 200_000)), max_size=50))
def test_a_bucket_never_gives_more_than_its_rate_and_one_overdraft(
    steps: list[tuple[float, int]],
) -> None:
    bucket, now, spent, largest = Bucket(100_000.0), 0.0, 0, 0
    for pause, size in steps:
        now += pause
        if not bucket.wait(now):
            bucket.spend(size, now)
            spent, largest = spent + size, max(largest, size)
    assert spent <= 100_000 * (now + BURST) + largest + 1


def test_a_capped_peer_is_asked_for_no_more_than_its_share() -> None:
    belief, now, asked = PeerBelief(NODE, linked=True), 0.0, 0
    terms = limits("* down=500kB").terms(NODE, "")
    blob = Blob(400, lambda index: index * 65536, (1 << 400) - 1)
    assert terms.down is not None
    while now < 10:
        source = belief.source((1 << 400) - 1, 65536, terms=terms, now=now)
        for ask in plan(blob, [source], 1 << 25, random.Random(1)):
            terms.down.spend(ask.size, now)
            asked += ask.size
        now += 0.1  # and all of it has come
    assert 0.9 * 5e6 < asked < 1.1 * 5e6


def test_of_two_sources_the_cheaper_is_asked_first() -> None:
    blob = Blob(4, lambda index: index * 65536, 0b1111)
    dear, cheap = PeerBelief(b"d" * 32), PeerBelief(b"c" * 32)
    dear.rate.add(10_000_000, 1.0, 0.0)
    terms = limits("* cost=9").terms(NODE, "")
    sources = [dear.source(0b1111, 65536, terms=terms), cheap.source(0b1111, 65536)]
    asks = plan(blob, sources, 1 << 20, random.Random(1))
    assert asks[0].peer == b"c" * 32
