"""What ``atoll mesh`` prints: nearest peers first, every trouble named."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from cli.mesh import authors_table, peers_table

PEER = {
    "node": "9f2c11aa77",
    "name": "b",
    "site": "s",
    "address": "tls://x:1",
    "state": "up",
    "rtt": 0.012,
    "received": 5_300_000,
    "sent": 1,
    "strikes": 0,
    "trouble": "",
}
AUTHOR = {
    "author": "9f2c11aa77",
    "name": "b",
    "seq": 7,
    "held": 0,
    "refused": 0,
    "forked": None,
    "reasons": {},
    "rejected": "",
    "rejected_count": 0,
}


def printed(layout: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(layout)
    return capture.get()


def test_peers_come_nearest_first() -> None:
    far = {**PEER, "node": "17ab90cc00", "rtt": 0.2, "trouble": "sent wrong bytes", "strikes": 2}
    lost = {**PEER, "node": "00ff", "rtt": None, "state": "down"}
    text = printed(peers_table([lost, far, PEER]))
    assert text.index("9f2c11aa") < text.index("17ab90cc") < text.index("00ff")
    assert "sent wrong bytes" in text
    assert "5.3 MB" in text


def test_only_authors_in_trouble_are_listed() -> None:
    assert authors_table([AUTHOR]).row_count == 0
    bad = {
        **AUTHOR,
        "held": 2,
        "reasons": {"its clock is ahead": 2},
        "forked": 5,
        "rejected": "bad signature",
        "rejected_count": 3,
    }
    text = printed(authors_table([AUTHOR, bad]))
    for words in ("its clock is ahead (2)", "forked", "from record 5", "bad signature", "2 held"):
        assert words in text
