"""What leaves over bulk sockets: pieces of what peers want, over as many sockets as it takes.

Spec: docs/mesh.md §9.
"""

from __future__ import annotations

import trio

from mesh.carrier import Counting, Line
from mesh.exchange import Exchange
from mesh.limits import Terms
from mesh.messages import POLICY, Busy, Cancel, Credit, Data, Done, Message, Want
from mesh.serving import Piece, failed
from mesh.shell.connection import Connection
from mesh.shell.links import Links
from mesh.shell.transfers import Transfers
from mesh.spread import Spread
from mesh.uplink import Uplink
from mesh.widening import IDLE, Seen, Widening
from store.digest import Digest
from store.errors import NoHolderError, NotFoundError, RegistryError

OFF_HOURS_MS = 10_000  # until what nobody waits for may be asked for again
HELD = 128 * 1024  # bytes that wait in the kernel for one peer, over all sockets
LOOK = 0.1  # seconds between looks at the sockets that chunks leave over


class Sending:
    """Serves what peers ask for.  ``links`` and ``transfers`` are set once they exist."""

    links: Links
    transfers: Transfers

    def __init__(self, exchange: Exchange, uplink: Uplink) -> None:
        self.spread = Spread()
        self.used: dict[bytes, float] = {}  # peer → when its bulk sockets last moved chunks
        self._exchange, self._uplink = exchange, uplink
        self._widenings: dict[bytes, Widening] = {}
        self._sockets: dict[bytes, int] = {}  # peer → so many share what waits in the kernel
        self._watched: set[bytes] = set()  # peers whose sockets are looked at
        self._watching = False

    def terms(self, peer: bytes) -> Terms:
        """Return what the operator has laid down for a peer."""
        belief = self._exchange.peers.get(peer)
        return self._exchange.limits.terms(peer, belief.site if belief is not None else "")

    def _may_serve(self, peer: bytes, want: Want) -> bool:
        """Tell whether this may go now: what nobody waits for has its hours."""
        background = want.priority >= POLICY
        return not background or self.terms(peer).background(self._exchange.limits.clock)

    async def heard(self, connection: Connection, message: Want | Cancel | Credit) -> None:
        """A peer asks for chunks, or no longer, or can take more.  Raises RemoteProtocolError."""
        peer = connection.node
        if isinstance(message, Want):
            if not self._may_serve(peer, message):
                connection.send(Busy(message.request, OFF_HOURS_MS))
                return
            if message.blob not in self._exchange.downloads:
                await self.transfers.manifest(Digest.sha256(message.blob))
            self._watch(peer)
        for answer in connection.serving.received(message):
            connection.send(answer)
        connection.wake()
        for each in self.links.bundle(peer):
            each.wake()

    async def feed(self, connection: Connection) -> bool:
        """A bulk socket can take more: read the next piece of what its peer wants."""
        serving, now = connection.serving, trio.current_time()
        if not len(serving) or serving.credit <= 0:
            return False
        cap = self.terms(connection.node).up
        pause = max(self._uplink.wait(connection.node, now), cap.wait(now) if cap else 0.0)
        if pause:
            await connection.rest(pause)
            return True
        others = [each.serving for each in self.links.bulk.values()]
        rate = self._uplink.known
        piece = self.spread.next(connection.node, serving, others, rate, self.transfers.length, now)
        if piece is None:
            return False
        self.used[connection.node] = now
        if isinstance(piece, Piece):
            await self._send_piece(connection, piece)
        else:
            connection.send(piece)
        return True

    async def _send_piece(self, connection: Connection, piece: Piece) -> None:
        said: Message
        try:
            raw = await self.transfers.read(piece.blob, piece.first, piece.count)
        except RegistryError as error:
            gone = isinstance(error, NotFoundError | NoHolderError)  # else the disk is in trouble
            raw, said = b"", failed(piece, gone=gone)
        else:
            said = Data(piece.request, piece.first, piece.count, raw)
        peer = connection.node
        bundle = self.links.bundle(peer)
        if connection.mute and connection in bundle:  # it was left meanwhile: another one carries
            connection = bundle[0]
        connection.send(said)
        if not isinstance(said, Data):
            return
        now = trio.current_time()
        self._uplink.sent(peer, len(raw), piece.priority, now)
        self.spread.sent(peer, piece, now)
        if (cap := self.terms(peer).up) is not None:
            cap.spend(len(raw), now)
        if piece.last and len(bundle) < 2:  # else it could overtake what is on its way beside it
            connection.send(Done(piece.request))

    # --- how many sockets ----------------------------------------------------------------------
    def _watch(self, peer: bytes) -> None:
        """Look at a peer's sockets as long as there are chunks to send."""
        self._watched.add(peer)
        if not self._watching and self.links.sockets_max > 1:
            self._watching = True
            self.transfers.start(self._look_on)

    async def _look_on(self) -> None:
        try:
            while self._watched:
                now = trio.current_time()
                for peer in list(self._watched):
                    if not self._look(peer, now):
                        self._watched.discard(peer)
                await trio.sleep(LOOK)
        finally:
            self._watching = False

    def _look(self, peer: bytes, now: float) -> bool:
        """Have as many sockets as it takes; whether to look again."""
        seen = self._seen(peer)
        if seen is None:
            return False
        if seen.sockets != self._sockets.get(peer, 1):
            self._sockets[peer] = seen.sockets
            for each in self.links.bundle(peer):
                if isinstance(each.stream, Counting):
                    each.stream.hold(HELD // seen.sockets)
        widening = self._widenings.setdefault(peer, Widening(self.links.sockets_max))
        before = widening.wanted
        wanted = widening.look(seen, now)
        if wanted > max(seen.sockets, before):
            self.links.widen(peer, wanted)
        elif widening.idle and now - self.used.get(peer, 0.0) < IDLE:
            return True  # the peer sends chunks over them
        elif wanted < seen.sockets:
            self.links.narrow(peer, "fewer sockets carry as much")
        return not widening.idle

    def _seen(self, peer: bytes) -> Seen | None:
        """Sum up what the sockets to a peer tell; None where they tell nothing."""
        sockets = self.links.bundle(peer)
        lines = [line for each in sockets if (line := _line(each)) is not None]
        if not sockets or sockets[0].relayed or len(lines) < len(sockets):
            return None
        terms = self.terms(peer).up
        caps = [cap for cap in (self._uplink.cap, terms.rate if terms else 0.0) if cap]
        return Seen(
            sockets=len(sockets),
            queued=len(sockets[0].serving) > 0 or any(each.unsent for each in lines),
            acked=sum(each.acked for each in lines),
            again=sum(each.again for each in lines),
            sent=sum(each.sent for each in lines),
            rtt=sum(each.rtt for each in lines) / len(lines),
            rtt_min=min(each.rtt_min for each in lines),
            yields=not lines[0].congestion.startswith("bbr"),
            cap=min(caps, default=0.0),
        )


def _line(connection: Connection) -> Line | None:
    stream = connection.stream
    return stream.line() if isinstance(stream, Counting) else None
