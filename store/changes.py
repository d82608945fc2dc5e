"""What a commit changed, as its observers hear of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from store.fold import FILE, FLAG, POINTER, SETTING
from store.projection import Touched


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit changed in one repository, or in the settings.

    ``hlc`` is the newest ledger time among the facts that changed something.  ``packages`` are
    (repository, package), ``settings`` are (kind, key), ``counts`` are cells by their kind's name.
    ``named`` tells that packages came or went.
    """

    packages: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    counts: Mapping[str, int]
    hlc: int
    touched: Sequence[Touched]
    named: bool = False


NAMES = {FILE: "file", POINTER: "pointer", FLAG: "flag", SETTING: "setting"}


def changes(touched: Sequence[Touched]) -> list[Change]:
    """Sort touched cells by repository."""
    groups: dict[str, list[Touched]] = {}
    for cell in touched:
        groups.setdefault("" if cell.kind == SETTING else cell.repository, []).append(cell)
    return [
        Change(
            packages=sorted({(c.repository, c.package) for c in group if c.kind != SETTING}),
            settings=sorted({(c.repository, c.name) for c in group if c.kind == SETTING}),
            counts=Counter(NAMES[cell.kind] for cell in group),
            hlc=max(cell.hlc for cell in group),
            touched=group,
            named=any(cell.named for cell in group),
        )
        for _, group in sorted(groups.items())
    ]


Observer = Callable[[Change], Awaitable[None]]


class Listeners:
    """Who is told of commits."""

    def __init__(self) -> None:
        self.observers: list[Observer] = []
        self._subscribers: list[trio.MemorySendChannel[None]] = []

    def subscribe(self) -> trio.MemoryReceiveChannel[None]:
        """A channel that receives one item whenever chains have grown; bursts become one."""
        sender, receiver = trio.open_memory_channel[None](1)
        self._subscribers.append(sender)
        return receiver

    async def tell(self, touched: Sequence[Touched]) -> None:
        """Tell everybody of a commit.  Not cancelled: what is committed must be told."""
        with trio.CancelScope(shield=True):
            for change in changes(touched):
                for observer in self.observers:
                    await observer(change)
        for sender in list(self._subscribers):
            try:
                sender.send_nowait(None)
            except trio.WouldBlock:
                continue  # it has not yet looked at the last one
            except trio.BrokenResourceError:
                self._subscribers.remove(sender)
