"""Relays at work: asking for one, being one, being met through one.  Spec: docs/mesh.md §14.

Every end brings a socket of its own to the relay, dialled by whoever dialled the control link, so
a node that can only dial out is met like any other.
"""

from __future__ import annotations

import hmac
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from mesh.carrier import Stream
from mesh.carriers.relayed import Joined, RelayedCarrier
from mesh.messages import FEATURE_RELAY, FEATURE_RELAYED, RelayOffer, RelayOpen, RelayReady
from mesh.relay import (
    ARRIVE_MAX,
    IDLE_MAX,
    PIECE,
    RELAYS_ASKED_MAX,
    RETRY,
    TOKEN_SIZE,
    Joint,
    Quota,
    Relay,
    detour,
)
from mesh.shell.connection import BROKEN, Connection
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links
from mesh.status import Relaying

ASK_MAX = 5.0  # seconds that a relay has to answer
OFFERS_MAX = 16  # from others, being taken up
SOON = 3.0  # seconds to the first look for a direct path
LOOK = 1.0  # seconds between looks at what is overdue
JOINED = b"\x01"
TROUBLE = (*BROKEN, trio.TooSlowError)
T = TypeVar("T")
log = structlog.get_logger(__name__)


class Relays:
    """All three parts: the asker's, the relay's and the member's who is asked for."""

    links: Links

    def __init__(
        self,
        seed: bytes,
        quota: Quota | None,
        is_member: Callable[[bytes], bool],
        rng: random.Random,
    ) -> None:
        self.carrier = RelayedCarrier(seed, self.open)
        self.core = None if quota is None else Relay(quota)
        self.features = FEATURE_RELAYED | (0 if quota is None else FEATURE_RELAY)
        self._is_member, self._rng = is_member, rng
        self._nursery: trio.Nursery | None = None
        self._requests = 0
        self._asked: dict[int, tuple[bytes, trio.MemorySendChannel[RelayReady]]] = {}
        self._awaited: dict[tuple[bytes, bytes], trio.MemorySendChannel[Joined]] = {}
        self._brought: dict[Joint, list[tuple[bytes, Joined]]] = {}
        self._scopes: dict[Joint, trio.CancelScope] = {}
        self._improve_at: dict[bytes, float] = {}
        self._taking = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled: what others ask for, and looks for direct paths."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    await trio.sleep(LOOK)
                    now = trio.current_time()
                    for joint in self.core.overdue(now) if self.core else ():
                        self._part(joint)
                    self._improve(now)
        finally:
            self._nursery = None

    def _improve(self, now: float) -> None:
        """Try every relayed peer directly now and then."""
        relayed = {peer for peer, link in self.links.control.items() if link.relayed}
        for peer in [peer for peer in self._improve_at if peer not in relayed]:
            del self._improve_at[peer]
        for peer in relayed:
            due = self._improve_at.setdefault(peer, now + SOON * self._rng.uniform(0.75, 1.25))
            if now >= due:
                self._improve_at[peer] = now + RETRY * self._rng.uniform(0.75, 1.25)
                self.links.improve(peer)

    def status(self) -> Relaying:
        """Return what is carried for others."""
        if self.core is None:
            return Relaying()
        return Relaying(self.core.streams, self.core.carried, self.core.refused)

    def moved(self, peer: bytes | None = None) -> None:
        """Somebody's address has changed, or with None ours: look for a direct path at once."""
        for each in self._improve_at:
            if peer in (None, each):
                self._improve_at[each] = 0.0

    # --- the asker -----------------------------------------------------------------------------
    def detours(self, peer: bytes) -> tuple[str, ...]:
        """Return addresses of a peer through the nearest relays that we are linked with."""
        found = [
            (link.link.rtt.smoothed, relay)
            for relay, link in self.links.control.items()
            if relay != peer and not link.relayed and _can(link, FEATURE_RELAY)
        ]
        return tuple(detour(relay, peer) for _, relay in sorted(found)[:RELAYS_ASKED_MAX])

    async def open(self, relay: bytes, target: bytes) -> Stream:
        """Have a relay join us with a member.  Raises OSError, trio.TooSlowError."""
        link = self.links.control.get(relay)
        if link is None or link.relayed:
            raise OSError("not linked with the relay")
        self._requests += 1
        request = self._requests
        send, receive = trio.open_memory_channel[RelayReady](1)
        self._asked[request] = relay, send
        try:
            link.send(RelayOpen(request, target))
            with trio.fail_after(ASK_MAX):
                answer = await receive.receive()
        finally:
            del self._asked[request]
        if len(answer.token) != TOKEN_SIZE:
            raise OSError(f"the relay says no: {answer.reason}")
        return await self._bring(relay, answer.token)

    async def _bring(self, relay: bytes, token: bytes) -> Joined:
        """Bring our socket to the relay, and wait until the other end has brought its own."""
        link = self.links.control.get(relay)
        if link is None:
            raise OSError("not linked with the relay any more")
        with trio.fail_after(ARRIVE_MAX):
            stream = await (self._dial if link.dialled else self._await)(relay, token)
            joined = False
            try:
                joined = await stream.receive_exactly(1) == JOINED
            finally:
                if not joined:
                    await trio.aclose_forcefully(stream)
        if not joined:
            raise OSError("the relay does not join us")
        return stream

    async def _dial(self, peer: bytes, token: bytes) -> Joined:
        connection = await self.links.dial_socket(peer)
        stream = Joined(connection.stream, connection.link.rest())
        try:
            await stream.send_all(token)
        except BaseException:  # cancelled, too
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def _await(self, relay: bytes, token: bytes) -> Joined:
        """The relay dialled our control link, so it dials this socket, too."""
        if (relay, token) in self._awaited:
            raise OSError("the relay gives one token twice")
        send, receive = trio.open_memory_channel[Joined](1)
        self._awaited[relay, token] = send
        try:
            return await receive.receive()
        finally:
            del self._awaited[relay, token]

    # --- messages ------------------------------------------------------------------------------
    def heard(self, peer: bytes, message: RelayOpen | RelayOffer | RelayReady) -> None:
        """A peer asks, offers or answers."""
        match message:
            case RelayOpen():
                self._asked_to_join(peer, message)
            case RelayReady(request):
                relay, channel = self._asked.get(request, (b"", None))
                if channel is not None and relay == peer:
                    _give(channel, message)
            case RelayOffer() if self._taking < OFFERS_MAX and self._is_member(message.source):
                self._taking += 1
                self._start(self._take, peer, message)
            case _:
                log.debug("mesh.offer_not_taken", relay=peer.hex())

    def _start(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(FAULTS.run, task, *args)

    async def _take(self, relay: bytes, offer: RelayOffer) -> None:
        """Be met through a relay: the far end is a stranger until it has introduced itself."""
        try:
            stream = await self._bring(relay, offer.token)
        except TROUBLE as error:
            log.info("mesh.not_met", relay=relay.hex(), why=str(error))
            return
        finally:
            self._taking -= 1
        await self.carrier.take(stream, relay, offer.source)

    # --- the relay -----------------------------------------------------------------------------
    def _asked_to_join(self, source: bytes, asked: RelayOpen) -> None:
        tokens = secrets.token_bytes(TOKEN_SIZE), secrets.token_bytes(TOKEN_SIZE)
        joint = self._judge(source, asked.target, tokens)
        if isinstance(joint, str):
            self.links.send(source, RelayReady(asked.request, b"", joint))
            return
        self.links.send(asked.target, RelayOffer(tokens[1], source))
        self.links.send(source, RelayReady(asked.request, tokens[0], ""))
        for end, token in zip(joint.ends, joint.tokens, strict=True):
            if self.links.control[end].dialled:
                self._start(self._fetch_end, joint, end, token)

    def _judge(self, source: bytes, target: bytes, tokens: tuple[bytes, bytes]) -> Joint | str:
        link = self.links.control.get(target)
        if self.core is None:
            return "this node is no relay"
        if link is None or link.relayed or not self._is_member(target):
            return "not linked with that member"
        if not _can(link, FEATURE_RELAYED) or self.links.control[source].relayed:
            return "no relay over a relay"
        return self.core.open(source, target, tokens, trio.current_time())

    async def _fetch_end(self, joint: Joint, end: bytes, token: bytes) -> None:
        """We dialled that end's control link, so we dial its socket, too."""
        try:
            with trio.fail_after(ARRIVE_MAX):
                stream = await self._dial(end, token)
        except TROUBLE as error:
            log.info("mesh.relay_end_missing", peer=end.hex(), why=str(error))
            return
        await self._arrived(end, token, stream)

    async def socket(self, connection: Connection) -> None:
        """Work a socket that a peer has brought, to its end."""
        peer, stream = connection.node, Joined(connection.stream, connection.link.rest())
        try:
            with trio.fail_after(ARRIVE_MAX):
                token = await stream.receive_exactly(TOKEN_SIZE)
            awaited = self._find_awaited(peer, token)
            if awaited is not None:
                _give(awaited, stream)
                await stream.closed.wait()
            else:
                await self._arrived(peer, token, stream)
        except TROUBLE as error:
            log.debug("mesh.relay_socket", peer=peer.hex(), why=str(error))
        finally:
            await trio.aclose_forcefully(stream)

    def _find_awaited(self, peer: bytes, token: bytes) -> trio.MemorySendChannel[Joined] | None:
        for (relay, known), channel in self._awaited.items():
            if relay == peer and hmac.compare_digest(known, token):
                return channel
        return None

    async def _arrived(self, end: bytes, token: bytes, stream: Joined) -> None:
        """One end is here; with the second, bytes flow until either ends."""
        joint = self.core.arrive(end, token) if self.core else None
        if joint is None:
            await trio.aclose_forcefully(stream)
            return
        self._brought.setdefault(joint, []).append((end, stream))
        if joint.joined:
            try:
                await self._join(joint)
            finally:
                self._part(joint)
        else:
            await stream.closed.wait()

    async def _join(self, joint: Joint) -> None:
        (_, one), (_, two) = self._brought[joint]
        log.info("mesh.relaying", ends=[end.hex()[:12] for end in joint.ends])
        with trio.CancelScope() as scope:
            self._scopes[joint] = scope
            try:
                await one.send_all(JOINED)
                await two.send_all(JOINED)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, joint, one, two, scope)
                    nursery.start_soon(self._pump, joint, two, one, scope)
            except BROKEN:
                return

    async def _pump(
        self, joint: Joint, source: Joined, target: Joined, scope: trio.CancelScope
    ) -> None:
        """Pass bytes on as fast as the target takes them and the quotas allow."""
        assert self.core is not None
        try:
            while True:
                scope.deadline = trio.current_time() + IDLE_MAX
                data = await source.receive_some(PIECE)
                if not data:
                    break
                await trio.sleep(self.core.carry(joint, len(data), trio.current_time()))
                await target.send_all(data)
        except BROKEN as error:
            log.debug("mesh.relay_broken", why=str(error))
        scope.cancel()

    def _part(self, joint: Joint) -> None:
        """Take two ends apart."""
        if self.core is not None:
            self.core.close(joint)
        scope = self._scopes.pop(joint, None)
        if scope is not None:
            scope.cancel()
        for _, stream in self._brought.pop(joint, []):
            self._start(trio.aclose_forcefully, stream)
            stream.closed.set()

    def keep(self, is_member: Callable[[bytes], bool]) -> None:
        """Take apart whoever is with one who is no member any more."""
        for joint in list(self.core.joints) if self.core else ():
            if not all(map(is_member, joint.ends)):
                self._part(joint)


def _give(channel: trio.MemorySendChannel[T], value: T) -> None:
    try:
        channel.send_nowait(value)
    except (trio.WouldBlock, trio.BrokenResourceError):
        return


def _can(link: Connection, feature: int) -> bool:
    return link.link.peer is not None and bool(link.link.peer.features & feature)
