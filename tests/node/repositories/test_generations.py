"""How long sets of documents stay known once others took their place."""

from __future__ import annotations

import pytest

from formats.contract import GENERATION_SECONDS, GENERATIONS_MAX, GENERATIONS_MIN
from node.repositories import generations
from node.repositories.generations import Generations
from store.blobs import Ingested
from tests.node.repositories.test_rendered import blob

KEY = ("debian", "dists/stable")


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def suite(number: int) -> dict[str, Ingested]:
    return {"Release": blob(f"release {number}"), "main/Packages": blob("the same")}


def test_a_suite_may_change_often_while_a_client_reads_it() -> None:
    clock = Clock()
    known = Generations(clock)
    for number in range(31):  # once a minute
        known.add(KEY, suite(number))
        clock.now += 60.0
    clock.now -= 60.0
    assert known.of(KEY)[-1] == suite(0), "it was the newest 29 minutes ago"
    clock.now += GENERATION_SECONDS - 29 * 60.0
    assert known.of(KEY)[-1] == suite(0)
    clock.now += 1.0
    assert known.of(KEY)[-1] == suite(1)


def test_a_few_stay_however_old_they_are() -> None:
    clock = Clock()
    known = Generations(clock)
    for number in range(9):
        known.add(KEY, suite(number))
        clock.now += 86400.0
    assert list(known.of(KEY)) == [suite(8), suite(7), suite(6)]
    assert GENERATIONS_MIN == 3


def test_number_and_size_are_bounded_whatever_happens_within_the_time() -> None:
    known = Generations(Clock())
    for number in range(GENERATIONS_MAX + 9):
        known.add(KEY, suite(number))
    assert len(known.of(KEY)) == GENERATIONS_MAX
    assert len(set(known.blobs())) == GENERATIONS_MAX + 1, "what they share is there once"
    half = generations.SIZE_MAX // 2
    large = [
        {"Packages": Ingested(blob(f"{n}").digest, half, {}, blob("").manifest)} for n in "abcdefg"
    ]
    for each in large:
        known.add(KEY, each)
    assert list(known.of(KEY)) == large[:-4:-1], "the newest, and what fits beside it"


def test_all_keys_together_are_bounded_and_the_longest_superseded_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generations, "TOTAL_MAX", 70)
    clock = Clock()
    known = Generations(clock)

    def sized(name: str) -> dict[str, Ingested]:
        return {"Packages": Ingested(blob(name).digest, 10, {}, blob("").manifest)}

    keys = [("debian", f"dists/{name}") for name in "ab"]
    for number in range(6):
        for name, key in zip("ab", keys, strict=True):
            known.add(key, sized(f"{name}{number}"))
            clock.now += 1.0
    assert [len(known.of(key)) for key in keys] == [4, 5], "70 bytes of older ones, of 100"
    assert known.of(keys[0])[-1] == sized("a2")
    for number in range(20):
        known.add(("debian", "c"), sized(f"c{number}"))
    assert [len(known.of(key)) for key in keys] == [3, 3], "the newest few of each stay"
    assert len(known.of(("debian", "c"))) == 4
    monkeypatch.setattr(generations, "SETS_MAX", 1)
    known.add(("debian", "d"), sized("d"))
    assert known._total == 0, "what is forgotten is not counted"


def test_what_was_there_before_is_the_newest_again() -> None:
    clock = Clock()
    known = Generations(clock)
    for number in (1, 2, 2, 1):
        known.add(KEY, suite(number))
    assert list(known.of(KEY)) == [suite(1), suite(2), suite(1)]
    clock.now += 2 * GENERATION_SECONDS
    assert known.of(KEY)[0] == suite(1)
