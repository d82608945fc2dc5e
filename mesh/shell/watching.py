"""Looks at every link now and then: whether it is up, what it carries, what TCP sends again."""

from __future__ import annotations

import time

from mesh.carrier import Counting
from mesh.exchange import Exchange
from mesh.limits import DAY
from mesh.shell.connection import Connection
from mesh.shell.links import Links

EVERY = 5.0  # seconds between looks at what changes slowly


class Watch:
    """Feeds beliefs and limits with what only a shell can see."""

    def __init__(self, exchange: Exchange, links: Links) -> None:
        self._exchange, self._links = exchange, links
        self._at: float | None = None

    def look(self, now: float) -> None:
        """See what has become of each link since the last call."""
        for peer, connection in self._links.bulk.items():
            belief = self._exchange.peers.get(peer)
            if belief is not None:
                sockets = self._links.bundle(peer)
                total = sum(each.sent.total for each in sockets)
                belief.outflow.look(total, connection.serving.backlog, now)
                counted = [each.delivered() for each in _counting(sockets)]
                known = [each for each in counted if each is not None]
                if known:
                    acked, busy, best = zip(*known, strict=True)
                    belief.outflow.arrived(sum(acked), max(busy), sum(best), now)
        if self._at is not None and now - self._at < EVERY:
            return
        elapsed = 0.0 if self._at is None else now - self._at
        self._at, local = now, time.localtime()
        second = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec
        self._exchange.limits.clock = second % DAY
        for peer, belief in self._exchange.peers.items():
            belief.history.look(elapsed, local.tm_hour, up=belief.linked)
            segments = [each.segments() for each in _counting(self._links.bundle(peer))]
            resent = [each for each in segments if each is not None]
            if resent:
                again, sent = zip(*resent, strict=True)
                belief.history.counted(sum(again), sum(sent))


def _counting(sockets: list[Connection]) -> list[Counting]:
    return [each.stream for each in sockets if isinstance(each.stream, Counting)]
