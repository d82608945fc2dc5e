"""Custody: a copy goes only when a member that holds another has promised to keep it.  Pure.

Spec: docs/mesh.md §13.4.  Who wants to let go of a blob *asks* holders; the first that says yes
lets it *drop*.  Who is dropping says no to everybody.  Who is asking says no to smaller ids, and
gives up its own wish before it says yes to a greater one.  A yes counts only for the wish it
answers.  So the last to drop was told yes by a node whose own wish, if any, came later, and that
one in turn by another: the chain ends at somebody who holds the blob still, however messages
are delayed, lost or crossed (tests/mesh/test_custody.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.copies import Release, Released

WISHES_MAX = 1024  # blobs that we wish to let go of at a time
GONE_MAX = 65_536  # blobs remembered as let go, so that a late look at the disk promises nothing


@dataclass(slots=True)
class Wish:
    """Our wish to let go of one blob."""

    request: int
    asked: frozenset[bytes]
    waiting: set[bytes] = field(default_factory=set[bytes])
    dropping: bool = False


class Custody:
    """One node's wishes, and its answers to those of others.

    ``first`` is another number at every start, so that no answer from before fits a wish of now.
    """

    def __init__(self, node: bytes, first: int = 0) -> None:
        self.node = node
        self._wishes: dict[bytes, Wish] = {}
        self._requests: dict[int, bytes] = {}
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self._last = first

    def ask(self, blob: bytes, holders: Sequence[bytes]) -> list[tuple[bytes, Release]]:
        """Wish to let go of a blob that these members seem to hold; what to send to whom.

        Nothing is sent when the wish is there already, or nobody could say yes.
        """
        if blob in self._wishes or not holders or len(self._wishes) >= WISHES_MAX:
            return []
        self._last += 1
        wish = Wish(self._last, frozenset(holders), set(holders))
        self._wishes[blob], self._requests[self._last] = wish, blob
        return [(peer, Release(wish.request, blob)) for peer in dict.fromkeys(holders)]

    def asked(self, peer: bytes, said: Release, *, holds: bool) -> Released:
        """Answer a member's wish; ``holds`` is whether the blob is here, whole."""
        wish = self._wishes.get(said.blob)
        keeps = holds and said.blob not in self._gone
        if keeps and wish is not None:
            if wish.dropping or peer < self.node:
                keeps = False
            else:
                self.withdraw(said.blob)
        return Released(said.request, keeps)

    def answered(self, peer: bytes, said: Released) -> bytes | None:
        """Take an answer; the blob that may be dropped now, or None.

        After it, ``done`` must follow.
        """
        blob = self._requests.get(said.request)
        wish = self._wishes.get(blob) if blob is not None else None
        if blob is None or wish is None or peer not in wish.waiting or wish.dropping:
            return None
        wish.waiting.discard(peer)
        if said.keeps:
            wish.dropping = True
            return blob
        if not wish.waiting:
            self.withdraw(blob)
        return None

    def done(self, blob: bytes, *, gone: bool) -> None:
        """The drop is over: the blob is gone, or was needed after all."""
        self._end(blob)
        if gone:
            self._gone[blob] = None
            while len(self._gone) > GONE_MAX:
                self._gone.popitem(last=False)

    def came(self, blob: bytes) -> None:
        """A blob is here again."""
        self._gone.pop(blob, None)

    def withdraw(self, blob: bytes) -> None:
        """Give a wish up, unless it is being carried out."""
        wish = self._wishes.get(blob)
        if wish is not None and not wish.dropping:
            self._end(blob)

    def lost(self, peer: bytes) -> None:
        """A member is out of reach: it answers nothing any more."""
        for blob, wish in list(self._wishes.items()):
            wish.waiting.discard(peer)
            if not wish.waiting:
                self.withdraw(blob)

    def wishes(self, blob: bytes) -> bool:
        """Tell whether we still wish to let go of a blob."""
        return blob in self._wishes

    def _end(self, blob: bytes) -> None:
        wish = self._wishes.pop(blob, None)
        if wish is not None:
            del self._requests[wish.request]
