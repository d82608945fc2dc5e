"""Which socket speaks for a peer, and how a better one takes over: one control link, one bulk.

Beside the bulk socket there may be others that carry chunks with it.  They share its queue of
requests; when one of them breaks, all are closed, and what was under way is asked for again.

A link dialled anew replaces a dead one at once, and what was under way is asked for again.  Where a
direct path opens beside a relayed one that works, nothing is lost: the dialler ends its words on
the old link with Goodbye and goes on over the new one; the listener follows when it reads that;
and each hears the old link out before it reads the new one.  Spec: docs/mesh.md §5.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from mesh.shell.connection import PARTING, Connection
from mesh.shell.hooks import Hooks
from mesh.widening import SOCKETS_MAX

ALIVE = 2.0  # seconds: a link that was heard so recently is not half-open
WORKING = 10.0  # seconds: an idle link is heard every five to eight
DRAIN_MAX = 30.0  # seconds that an old bulk socket may deliver what was asked for on it
log = structlog.get_logger(__name__)


class Standing:
    """The sockets that count."""

    def __init__(
        self,
        hooks: Hooks,
        node: bytes,
        superseded: Callable[[bytes], None],
        sockets_max: int = SOCKETS_MAX,
    ) -> None:
        self.control: dict[bytes, Connection] = {}
        self.bulk: dict[bytes, Connection] = {}
        self.sockets_max = sockets_max
        self._beside: dict[bytes, list[Connection]] = {}
        self._hooks = hooks
        self._node = node
        self._superseded = superseded
        self._better: dict[bytes, Connection] = {}  # direct, and the dialler has not moved yet

    # --- control -------------------------------------------------------------------------------
    def control_established(self, connection: Connection) -> bool:
        """Take a new control link, or close it; whether it is to stay."""
        peer = connection.node
        old = self.control.get(peer)
        if old is not None and self._prefer_old(old, connection):
            connection.close("a link is up already")
            return False
        if old is not None and _improves(old, connection):
            return self._hand_over(old, connection)
        self._replace(old, connection)
        return True

    def _prefer_old(self, old: Connection, new: Connection) -> bool:
        """Tell whether the link that is up stays: both sides must decide alike.

        A second dial by the same side means that it has given up on the first, unless it was under
        way already when that one came up: then the dialler is about to call it off.
        """
        if trio.current_time() - old.heard_at > ALIVE and not _improves(old, new):
            return False
        if old.relayed is not new.relayed:
            return new.relayed
        if old.dialled == new.dialled:
            return not new.dialled and new.begun < old.established_at
        return old.dialled is (self._node < new.node)

    def _replace(self, old: Connection | None, new: Connection) -> None:
        peer = new.node
        if old is not None:
            del self.control[peer]
            old.close("replaced by a new link")
            self._hooks.unlinked(peer, "replaced")
            self.drop_bulk(peer, "the control link was replaced")
        self.control[peer] = new
        log.info("mesh.linked", peer=peer.hex(), address=new.address)
        self._hooks.linked(peer)

    def _hand_over(self, old: Connection, new: Connection) -> bool:
        """Go on over a direct path; whether it is this one: both sides may have opened one.

        Then the one that the smaller id dialled stays, as always.  Were both to, each side would
        speak on its own for ever.
        """
        peer, waiting = new.node, self._better.get(new.node)
        if new.dialled and waiting is not None and peer < self._node:
            new.close("a link is up already")
            return False
        if waiting is not None:
            del self._better[peer]
            waiting.close("replaced by a new link")
        new.after = old.over
        if new.dialled:
            self._promote(peer, new)
            old.leave("a direct path has opened")
        else:
            self._better[peer] = new
            old.successor = True
        return True

    def _promote(self, peer: bytes, new: Connection) -> None:
        self.control[peer] = new
        log.info("mesh.moved", peer=peer.hex(), address=new.address)
        self._hooks.moved(peer)
        self._superseded(peer)

    def ended(self, connection: Connection) -> None:
        """A socket is over."""
        peer = connection.node
        if self._better.get(peer) is connection:
            del self._better[peer]
        if self.control.get(peer) is connection:
            better = self._better.pop(peer, None)
            if better is not None:
                self._promote(peer, better)
                return
            del self.control[peer]
            log.info("mesh.unlinked", peer=peer.hex(), why=connection.reason)
            self._hooks.unlinked(peer, connection.reason)
            self.drop_bulk(peer, "the control link is gone")
        elif self.bulk.get(peer) is connection:
            del self.bulk[peer]
            self._close_beside(peer, connection.reason)
            self._hooks.bulk_closed(peer)
        elif connection in self._beside.get(peer, ()):
            self._beside[peer].remove(connection)
            if not connection.orderly:
                self.drop_bulk(peer, "a bulk socket broke")

    # --- bulk ----------------------------------------------------------------------------------
    def bulk_established(self, connection: Connection) -> None:
        """Take a new bulk socket, or close it."""
        peer = connection.node
        if peer not in self.control:
            connection.close("bulk without control")
            return
        if connection.beside:
            self._beside_established(connection)
            return
        old = self.bulk.get(peer)
        if old is not None and _improves(old, connection):
            self.bulk[peer] = connection
            connection.before = old
            old.close_by(trio.current_time() + DRAIN_MAX)
            return
        self.drop_bulk(peer, "replaced")
        self.bulk[peer] = connection
        self._hooks.bulk_opened(peer)

    def _beside_established(self, connection: Connection) -> None:
        peer = connection.node
        if connection.relayed or not self.room(peer):
            connection.close("no room for another bulk socket")
            return
        connection.serving = self.bulk[peer].serving
        self._beside.setdefault(peer, []).append(connection)
        connection.wake()

    def room(self, peer: bytes) -> bool:
        """Tell whether one more bulk socket to a peer may be opened, from either side."""
        now = self.bulk.get(peer)
        return now is not None and not now.relayed and len(self.bundle(peer)) < self.sockets_max

    def bundle(self, peer: bytes) -> list[Connection]:
        """Return the bulk sockets that carry chunks, the one that counts first."""
        now = self.bulk.get(peer)
        return [] if now is None else [now, *self._beside.get(peer, ())]

    def narrow(self, peer: bytes, reason: str) -> None:
        """End the bulk sockets beside the first; what is on its way on them still comes."""
        for each in self._beside.get(peer, ()):
            if not each.mute:
                each.leave(reason, PARTING)

    def _close_beside(self, peer: bytes, reason: str) -> None:
        for each in self._beside.pop(peer, []):
            each.close(reason)

    def serves(self, peer: bytes, connection: Connection) -> bool:
        """Tell whether a bulk socket counts: the present ones, or the one before that drains."""
        now = self.bulk.get(peer)
        return connection in self.bundle(peer) or (now is not None and now.before is connection)

    def speaks(self, peer: bytes, connection: Connection) -> bool:
        """Tell whether a control link counts: the present one, or one about to be or just left."""
        now = self.control.get(peer)
        if now is connection or self._better.get(peer) is connection:
            return True
        return now is not None and now.after is connection.over

    def drop_bulk(self, peer: bytes, reason: str) -> None:
        """Close the bulk socket; what was asked for on it is asked for again."""
        old = self.bulk.pop(peer, None)
        self._close_beside(peer, reason)
        if old is not None:
            if old.before is not None:
                old.before.close(reason)
            old.close(reason)
            self._hooks.bulk_closed(peer)


def _improves(old: Connection, new: Connection) -> bool:
    """Tell whether a direct path opens beside a relayed one that works."""
    works = trio.current_time() - old.heard_at < WORKING and not old.link.closed
    return works and old.relayed and not new.relayed
