"""``atoll mesh links``: what people read."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from cli.links import day, links_table, milliseconds, terms

LINK: dict[str, Any] = {
    "name": "b",
    "site": "ship",
    "up": True,
    "rtt": 0.061,
    "rtt_min": 0.05,
    "queue": 0.011,
    "down": 2_500_000.0,
    "sending": None,
    "loss": 0.012,
    "sockets": 4,
    "availability": 0.5,
    "outages": 3,
    "outage_usual": 8.0,
    "hours": [None, 0.0, 0.5, 1.0] + [None] * 20,
    "up_cap": 1e6,
    "down_cap": None,
    "metered": True,
    "cost": 2.0,
    "background": False,
}


def test_a_link_is_laid_out() -> None:
    console = Console(width=220, no_color=True)
    with console.capture() as capture:
        console.print(links_table([LINK]))
    text = capture.get()
    for part in ("61 ms", "50 ms", "11 ms", "2.5 MB/s", "1.2%", "50%", "3, 8.0 s", "· ▄█····"):
        assert part in text
    assert "up ≤ 1.0 MB/s, metered, cost 2, no background now" in text


def test_what_is_unknown_is_left_out() -> None:
    assert milliseconds(None) == ""
    assert day([None, 0.0, 1.0]) == "· █"
    assert terms({**LINK, "up_cap": None, "metered": False, "cost": 0, "background": True}) == ""
