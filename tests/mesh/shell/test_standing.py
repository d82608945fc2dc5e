"""Which socket speaks for a peer when several are up: both sides decide alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from mesh.shell.standing import Standing

SMALL, LARGE = b"a" * 32, b"b" * 32


class Told:
    """Hooks that take everything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def link(peer: bytes, *, dialled: bool, relayed: bool = False) -> Any:
    """Make a control link that has just come up."""
    now = trio.current_time()
    made = SimpleNamespace(node=peer, dialled=dialled, relayed=relayed, address="", reason="")
    made.heard_at = made.begun = made.established_at = now
    made.link, made.over = SimpleNamespace(closed=False), trio.Event()
    made.after, made.successor = None, False

    def end(reason: str) -> None:
        made.reason = reason

    made.close = made.leave = end
    return made


@pytest.mark.parametrize("accepted_first", [True, False])
@pytest.mark.parametrize(("node", "peer"), [(SMALL, LARGE), (LARGE, SMALL)])
async def test_of_direct_paths_that_cross_the_one_of_the_smaller_id_stays(
    node: bytes, peer: bytes, accepted_first: bool
) -> None:
    """Both stayed where each side had accepted the other's before its own was up."""
    standing = Standing(Told(), node, lambda _: None)
    relayed = link(peer, dialled=True, relayed=True)
    assert standing.control_established(relayed)
    ours, theirs = link(peer, dialled=True), link(peer, dialled=False)
    for each in (theirs, ours) if accepted_first else (ours, theirs):
        standing.control_established(each)
    standing.ended(relayed)
    stays, goes = (ours, theirs) if node < peer else (theirs, ours)
    assert standing.control[peer] is stays
    assert goes.reason
    assert not stays.reason
    standing.ended(goes)
    assert standing.control[peer] is stays
    assert not standing._better
