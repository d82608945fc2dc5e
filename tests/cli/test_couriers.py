"""``atoll mesh couriers``: what people read."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from cli.couriers import cargo_table, summary

WISH = {"target": "ab" * 32, "teller": "cd" * 32, "expires": 7260.0, "urgent": False}
ITEM: dict[str, Any] = {"blob": "sha256:" + "12" * 32, "size": 2_000_000, "state": "carried"}
FOUND: dict[str, Any] = {
    "carrying": True,
    "budget": 4_000_000,
    "used": 2_000_000,
    "wishes": 3,
    "delivered": 7,
    "expired": 1,
    "displaced": 0,
    "lacking": 2,
    "more": 5,
    "told": [{"courier": "ef" * 32, "blobs": 9}],
}


def text(items: list[dict[str, Any]]) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(cargo_table(items, 60.0))
    return capture.get()


def test_the_table_says_what_for_whom_why_and_how_long() -> None:
    found = text(
        [
            {**ITEM, "wishes": [{**WISH, "guessed": False}]},
            {**ITEM, "wishes": [{**WISH, "guessed": True}]},
            {**ITEM, "wishes": [{**WISH, "urgent": True, "guessed": False}]},
            {**ITEM, "state": "leaving", "size": 0, "wishes": []},
        ]
    )
    for word in ("2.0 MB", "abababab", "placed there", "as far as we know", "asked for", "2 h 00"):
        assert word in found
    assert "leaving" in found


def test_the_summary_says_whether_it_carries_and_what_it_asked_for() -> None:
    said = summary(FOUND)
    for word in ("2.0 MB of 4.0 MB", "7 blobs delivered", "efefefef", "9 blobs", "5 more"):
        assert word in said
    idle = summary({**FOUND, "carrying": False, "told": [], "lacking": 0, "more": 0})
    assert "mesh.courier = on" in idle
    assert len(idle.splitlines()) == 1
