"""Write concern: how many members must hold a publish before its writer is answered.  Pure.

Spec: docs/mesh.md §13.6.  A concern only ever asks for *more* than the local commit, and counts
members besides the one that answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from store.errors import RejectedError

REPLICATED, SITES = "replicated", "sites"
COUNT_MAX = 100
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Concern:
    """``count`` other members, or other sites, with durable copies of records and blobs."""

    kind: str = REPLICATED
    count: int = 0  # 0: the local commit is enough

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.count else LOCAL

    def reached(self, confirmed: Iterable[str], sites: Mapping[str, str], own: str) -> int:
        """Count what the members that have confirmed stand for; ``own`` is our site."""
        nodes = set(confirmed)
        if self.kind == REPLICATED:
            return len(nodes)
        return len({sites[node] for node in nodes if node in sites} - {own})

    def possible(self, others: Iterable[str], sites: Mapping[str, str], own: str) -> bool:
        """Tell whether there are members enough for it to be reached one day."""
        return self.reached(others, sites, own) >= self.count


def read_concern(text: str) -> Concern:
    """Read ``local``, ``replicated:K`` or ``sites:K``.  Raises RejectedError."""
    kind, _, number = text.strip().partition(":")
    if kind == LOCAL and not number:
        return Concern()
    if kind in (REPLICATED, SITES) and number.isascii() and number.isdecimal():
        count = int(number[:9])
        if 1 <= count <= COUNT_MAX:
            return Concern(kind, count)
    raise RejectedError(f"{text[:80]!r} is no write concern: local, replicated:K or sites:K")
