"""Who is linked with whom, told and heard.  Spec: docs/mesh.md §15."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

import trio

from mesh.beliefs import PeerBelief
from mesh.carrier import P2P
from mesh.neighbourhood import (
    DIRECT,
    LIBP2P,
    RECORDS_MAX,
    RELAYED,
    SHORT,
    SPACING,
    LinkWords,
    Path,
    Words,
    period,
    sign,
)
from mesh.ports import LedgerPort
from mesh.shell.connection import Connection
from mesh.shell.links import Links

LOOK = 2.0  # seconds between looks at who is linked


class Neighbourhood:
    """Tells members of our links, passes on what others tell of theirs, remembers the newest."""

    def __init__(
        self,
        ledger: LedgerPort,
        links: Links,
        beliefs: dict[bytes, PeerBelief],
        key_of: Callable[[bytes], bytes | None],
        rng: random.Random,
    ) -> None:
        self.words = Words()
        self._ledger, self._links, self._beliefs = ledger, links, beliefs
        self._key_of, self._rng = key_of, rng
        self._linked: frozenset[bytes] = frozenset()

    async def run(self) -> None:
        """Work until cancelled."""
        due = again = 0.0
        while True:
            await trio.sleep(LOOK)
            now, linked = trio.current_time(), frozenset(self._links.control)
            self.words.keep(self._is_member, time.time())
            for peer in linked - self._linked:
                self._send(peer, self.words.encoded())
            if linked != self._linked:
                due, self._linked = min(due, again), linked
            if now >= due and linked:
                self._tell()
                members = len(self._ledger.authority.members())
                again = now + SPACING + LOOK
                due = now + period(members) * self._rng.uniform(0.9, 1.1)

    def _is_member(self, node: bytes) -> bool:
        return self._key_of(node) is not None

    def _tell(self) -> None:
        clock, mesh = time.time(), bytes.fromhex(self._ledger.mesh)
        word = sign(self._ledger.identity, mesh, self.paths(), clock)
        if self.words.take(word, mesh, self._key_of, clock) is not None:
            for peer in list(self._links.control):
                self._send(peer, [word])

    def paths(self) -> Iterator[Path]:
        """Give our links as we see them."""
        for peer, connection in self._links.control.items():
            belief = self._beliefs.get(peer) or PeerBelief(peer)
            rtt = belief.rtt.smoothed if belief.rtt.measured else 0.0
            rate = belief.rate.average if belief.rate.measured else 0.0
            resent = belief.history.loss or 0.0
            yield Path(peer[:SHORT], int(rtt * 1e6), int(rate), int(resent * 1e6), _way(connection))

    def heard(self, peer: bytes, said: LinkWords) -> None:
        """Take what is new, and pass it on."""
        mesh, clock = bytes.fromhex(self._ledger.mesh), time.time()
        own = bytes.fromhex(self._ledger.node)
        for data in said.records:
            word = self.words.take(
                data, mesh, lambda node: None if node == own else self._key_of(node), clock
            )
            if word is None:
                continue
            for other in list(self._links.control):
                if other not in (peer, word.node) and not word.names(other):
                    self._send(other, [data])

    def _send(self, peer: bytes, records: Sequence[bytes]) -> None:
        for start in range(0, len(records), RECORDS_MAX):
            self._links.send(peer, LinkWords(tuple(records[start : start + RECORDS_MAX])))


def _way(connection: Connection) -> int:
    if connection.relayed:
        return RELAYED
    return LIBP2P if urlsplit(connection.address).scheme == P2P else DIRECT
