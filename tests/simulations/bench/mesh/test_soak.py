"""What counts as flat."""

from __future__ import annotations

from simulations.bench.mesh.idle import Idle, per_link
from simulations.bench.mesh.soak import Look, flapping_pairs, report, verdicts


def look(at: float, *, rss: float = 1e8, sockets: float = 10, temporary: float = 0) -> Look:
    return Look(at, 0, rss, 50, sockets, 20, temporary, 12)


def flat(looks: list[Look], last: Look) -> dict[str, bool]:
    return {each.figure: each.flat for each in verdicts(looks, [last])}


def test_noise_is_flat_and_growth_is_not() -> None:
    steady = [look(float(at), rss=1e8 + 1e6 * (at % 3)) for at in range(100)]
    assert all(flat(steady, look(120.0)).values())
    growing = [look(float(at), rss=1e8 + 4e5 * at, sockets=at) for at in range(100)]
    found = flat(growing, look(120.0))
    assert [name for name, fine in found.items() if not fine] == ["rss", "sockets"]


def test_what_the_first_quarter_warms_up_is_no_growth() -> None:
    looks = [look(float(at), rss=8e7 if at < 25 else 1.2e8) for at in range(100)]
    assert all(flat(looks, look(120.0)).values())


def test_a_temporary_file_at_the_end_is_a_leak() -> None:
    looks = [look(float(at), temporary=3) for at in range(100)]
    assert flat(looks, look(120.0, temporary=1))["temporary at the end"] is False
    text = report(verdicts(looks, [look(120.0, temporary=1)]))
    assert "| n0 | temporary at the end | 0.0 | 1.0 | NO |" in text
    assert "| n0 | rss | 100.0 MB | 100.0 MB | yes |" in text


def test_links_flap_all_the_time_and_one_seed_gives_one_plan() -> None:
    plan = flapping_pairs(600.0, 1)
    assert plan == flapping_pairs(600.0, 1) != flapping_pairs(600.0, 2)
    assert 60 < len(plan) < 300
    assert {pair for outage in plan for pair in outage.pairs} == {
        (one, two) for two in range(4) for one in range(two)
    }


def test_a_link_is_both_directions() -> None:
    assert per_link([[0, 100, 20], [50, 0, 4], [0, 6, 0]], 10.0) == [15.0, 2.0, 1.0]
    text = str(Idle(16, 60.0, 150.0, 180.0, 40.0, 0.005, 0.004, 9e7, 1.0))
    assert "150 bytes/s a link" in text
    assert "0.50% of a core" in text
