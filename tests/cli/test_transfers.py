"""``atoll mesh transfers`` and ``why``: what people read."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from cli.transfers import events_table, sources_table, summary, time_text, transfers_table

DIGEST = "sha256:" + "ab" * 32
ITEM = {
    "blob": DIGEST,
    "size": 1000,
    "verified": 250,
    "state": "fetching",
    "sources": ["9f2c11aa"],
    "relayed": True,
    "rate": 2_500_000.0,
    "left": 75.0,
}
WHY: dict[str, Any] = {
    **ITEM,
    "seconds": 3.2,
    "waiting": "chunks from b",
    "forgotten": 4,
    "sources": [
        {
            "name": "b",
            "site": "harbour",
            "says": "has all of it",
            "received": 250,
            "share": 0.5,
            "rate": 2_500_000.0,
            "awaited": 100,
            "state": "asked",
            "redirected": 3,
            "stalls": 0,
            "bad": 1,
            "wasted": 0,
        }
    ],
    "events": [
        {"seconds": 0.0, "what": "wanted", "node": "", "why": "for a client", "count": 1},
        {"seconds": 2.5, "what": "redirected", "node": "b", "why": "to c", "count": 7},
    ],
}


def text(layout: Table) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        console.print(layout)
    return capture.get()


def test_what_moves_is_told_with_the_time_it_takes() -> None:
    sending = {"node": "77" * 32, "name": "c", "queued": 2000, "rate": 0.0, "left": None}
    found = text(transfers_table({"items": [ITEM], "sending": [sending]}))
    for part in ("sha256:abababababab", "fetching for others", "25 %", "2.5 MB/s", "1 min 15 s"):
        assert part in found
    assert "2.0 kB" in found
    assert " ? " in found


def test_a_transfer_is_explained() -> None:
    said = summary(WHY)
    assert "fetching, 250 bytes of 1.0 kB after 3.2 s, at 2.5 MB/s; about 1 min 15 s left" in said
    assert said.endswith("It waits for chunks from b.")
    sources = text(sources_table(WHY["sources"]))
    assert "3 redirected, 1 bad" in sources
    assert "50%" in sources
    events = text(events_table(WHY))
    assert "to c (7 times)" in events
    assert "4 earlier events" in events


def test_durations_read_well() -> None:
    assert [time_text(each) for each in (None, 1.25, 65.0, 3700.0)] == [
        "?",
        "1.2 s",
        "1 min 05 s",
        "1 h 01 min",
    ]
