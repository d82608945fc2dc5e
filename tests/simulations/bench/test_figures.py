"""The order of runs, and sizes for people."""

from __future__ import annotations

from pathlib import Path

from simulations.bench.figures import Bench, Sizes, rotated

URLS = {
    ("index", "a"): "1",
    ("file", "a"): "2",
    ("index", "b"): "3",
    ("file", "b"): "4",
    ("index", "c"): "5",
}


def test_each_round_begins_with_another_server() -> None:
    def order(round_: int) -> str:
        return "".join(name for (case, name), _ in rotated(URLS, round_) if case == "index")

    assert [order(n) for n in range(4)] == ["abc", "bca", "cab", "abc"]


def test_cases_stay_together() -> None:
    assert [case for (case, _), _ in rotated(URLS, 1)] == ["index"] * 3 + ["file"] * 2


def test_sizes_are_told_in_their_unit(tmp_path: Path) -> None:
    bench = Bench({}, tmp_path, Sizes(), print)
    shown = [bench.label(size) for size in (10, 1 << 10, 3 << 19, 1 << 30)]
    assert shown == ["10 B", "1 KiB", "1.5 MiB", "1 GiB"]
    assert bench.noise("n", 100_000).stat().st_size == 100_000
    assert bench.has("atoll") == []
