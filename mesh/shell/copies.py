"""Copies at work: who holds what, who keeps it, who has it safely.  Spec: docs/mesh.md §13.

Messages of holdings are written down by one task, several at a time; what members ask is answered
at once or in tasks of their own, a bounded number for each.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog
import trio

from mesh.advert import ID, Advert, pages
from mesh.copies import (
    CHECKS,
    COPIES,
    SHARDS,
    Holdings,
    HoldingsDelta,
    HoldingsGet,
    HoldingsPage,
    Release,
    Released,
    Secure,
    Secured,
)
from mesh.custody import Custody
from mesh.messages import Message
from mesh.ports import KeeperPort
from mesh.shell.faults import FAULTS
from mesh.shell.links import Links
from store.errors import RegistryError
from store.holders import check

KINDS = tuple(COPIES.values())
QUEUE_MAX = 256  # messages waiting to be written down; more, and links are read no further
GROUP_MAX = 64  # of them written down together
PIECES_MAX = 8  # of one shard: 16 million blobs of one member
SECURES_MAX = 16  # of one member under way
REPORT = 30.0  # seconds between reports, if they changed
RELEASE_TIMEOUT = 10.0  # seconds that holders have to promise
BACKLOG_MAX = 1 << 20  # bytes queued on a link before the next page
log = structlog.get_logger(__name__)


class Copies:
    """Tells members of our holdings and hears of theirs; asks and grants custody.

    Without a ``keeper`` it promises nothing and says nothing.
    """

    def __init__(self, node: bytes, links: Links, rng: random.Random) -> None:
        self.keeper: KeeperPort | None = None
        self.advert = Advert(rng.getrandbits(48))
        self.custody = Custody(node, rng.getrandbits(48))
        self._links = links
        self._heard: dict[bytes, tuple[int, int]] = {}
        self._asked: set[bytes] = set()  # peers whose answer to HoldingsGet is not complete
        self._answering: set[bytes] = set()
        self._released: dict[bytes, tuple[trio.Event, list[bool]]] = {}
        self._secured: dict[int, tuple[bytes, trio.Event, list[bool]]] = {}
        self._secures: Counter[bytes] = Counter()
        self._request = rng.getrandbits(48)
        self._start: Callable[..., None] = lambda *_: None
        send, receive = trio.open_memory_channel[tuple[bytes, Message]](QUEUE_MAX)
        self._put, self._queue = send, receive
        self._contained = partial(FAULTS.run, then=links.hold)
        self._report = b""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        async with trio.open_nursery() as nursery:
            self._start = nursery.start_soon
            nursery.start_soon(self._write_forever)
            nursery.start_soon(self._report_forever)
            task_status.started()

    async def attach(self, keeper: KeeperPort) -> None:
        """Begin to speak of what this node holds."""
        heard = await keeper.heard()
        self._heard = {bytes.fromhex(node): reach for node, reach in heard.items()}
        self.keeper = keeper
        for peer in list(self._links.control):
            self.linked(peer)

    # --- links ---------------------------------------------------------------------------------
    def linked(self, peer: bytes) -> None:
        """A control link is up: say where we are."""
        self._asked.discard(peer)
        if self.keeper is not None:
            self._state(peer)

    def unlinked(self, peer: bytes) -> None:
        """The link is gone, and with it what the peer was to answer."""
        self._asked.discard(peer)
        self.custody.lost(peer)
        for blob, (event, _) in self._released.items():
            if not self.custody.wishes(blob):
                event.set()
        for asked, event, _ in self._secured.values():
            if asked == peer:
                event.set()

    def _state(self, peer: bytes) -> None:
        if self.keeper is not None and peer not in self._answering:
            report = self.keeper.report()
            self._links.send(peer, Holdings(self.advert.epoch, self.advert.seq, report))

    async def _report_forever(self) -> None:
        while True:
            await trio.sleep(REPORT)
            if self.keeper is not None and (report := self.keeper.report()) != self._report:
                self._report = report
                for peer in list(self._links.control):
                    self._state(peer)

    def moved(self, blobs: Mapping[bytes, bool]) -> None:
        """Blobs have come (True) or gone: tell everybody."""
        for blob, came in blobs.items():
            if came:
                self.custody.came(blob)
        deltas = self.advert.moved(blobs)
        for peer in list(self._links.control):
            for delta in deltas:
                self._links.send(peer, delta)

    # --- messages ------------------------------------------------------------------------------
    async def heard(self, peer: bytes, message: Message) -> None:
        """Take a message."""
        match message:
            case Release():
                holds = self.keeper is not None and await self.keeper.holds(message.blob)
                self._links.send(peer, self.custody.asked(peer, message, holds=holds))
                self._lapse(message.blob)
            case Released():
                self._hear_released(peer, message)
            case Secure() if self._secures[peer] >= SECURES_MAX:
                self._links.send(peer, Secured(message.request, durable=False))
            case Secure():
                self._secures[peer] += 1
                self._start(self._contained, self._secure, peer, message)
            case Secured():
                self._hear_secured(peer, message)
            case HoldingsGet():
                self._hear_get(peer, message)
            case _ if self.keeper is not None:
                await self._put.send((peer, message))

    def _hear_released(self, peer: bytes, said: Released) -> None:
        blob = self.custody.answered(peer, said)
        waiting = self._released.get(blob) if blob is not None else None
        if waiting is not None:
            waiting[1].append(True)
            waiting[0].set()
        elif blob is not None:
            self.custody.done(blob, gone=False)  # nobody waits for it any more
        for each in list(self._released):
            self._lapse(each)

    def _hear_secured(self, peer: bytes, said: Secured) -> None:
        asked = self._secured.get(said.request)
        if asked is not None and asked[0] == peer:
            asked[2].append(said.durable)
            asked[1].set()

    def _hear_get(self, peer: bytes, asked: HoldingsGet) -> None:
        if peer not in self._answering:
            self._answering.add(peer)
            self._start(self._contained, self._answer, peer, asked)

    def _lapse(self, blob: bytes) -> None:
        """A wish that was given up is answered."""
        waiting = self._released.get(blob)
        if waiting is not None and not self.custody.wishes(blob):
            waiting[0].set()

    # --- holdings: answering -------------------------------------------------------------------
    async def _answer(self, peer: bytes, asked: HoldingsGet) -> None:
        seq = self.advert.seq
        try:
            missed = self.advert.since(asked.epoch, asked.seq)
            if missed is None:
                await self._send_pages(peer, asked.checks.ljust(CHECKS, b"\0"))
            else:
                for delta in missed:
                    self._links.send(peer, delta)
            report = self.keeper.report() if self.keeper is not None else b""
            self._links.send(peer, Holdings(self.advert.epoch, seq, report))
        except RegistryError as error:
            log.warning("mesh.holdings_not_told", peer=peer.hex(), why=str(error))
        finally:
            self._answering.discard(peer)

    async def _send_pages(self, peer: bytes, checks: bytes) -> None:
        for shard in range(SHARDS):
            connection = self._links.control.get(peer)
            if connection is None or self.keeper is None:
                return
            suffixes = set(await self.keeper.suffixes(shard))
            if check(suffixes) != checks[4 * shard : 4 * shard + 4]:
                for page in pages(shard, suffixes):
                    connection.send(page)
                await connection.drained(BACKLOG_MAX)

    # --- holdings: hearing ---------------------------------------------------------------------
    async def _write_forever(self) -> None:
        async for first in self._queue:
            group = [first]
            while len(group) < GROUP_MAX:
                try:
                    group.append(self._queue.receive_nowait())
                except trio.WouldBlock:
                    break
            try:
                await self._write(group)
            except RegistryError as error:
                log.warning("mesh.holdings_not_kept", why=str(error))
                self._asked.clear()

    async def _write(self, group: Sequence[tuple[bytes, Message]]) -> None:
        shards: dict[bytes, dict[int, bytes]] = {}
        for peer, message in group:
            if isinstance(message, HoldingsPage):
                await self._page(peer, message, shards)
                continue
            await self._replace(shards)
            if isinstance(message, HoldingsDelta):
                await self._delta(peer, message)
            elif isinstance(message, Holdings):
                await self._stated(peer, message)
        await self._replace(shards)

    async def _page(
        self, peer: bytes, page: HoldingsPage, shards: dict[bytes, dict[int, bytes]]
    ) -> None:
        if peer not in self._asked or page.piece >= PIECES_MAX or len(page.suffixes) % 4:
            return
        if page.piece:  # rare: shards of more than a quarter of a million bytes
            await self._replace(shards)
            added = [bytes([page.shard]) + each for each in cut(page.suffixes, 4)]
            await self._keep().change(peer.hex(), added, [])
        else:
            ordered = b"".join(sorted(cut(page.suffixes, 4)))
            shards.setdefault(peer, {})[page.shard] = ordered

    async def _replace(self, shards: dict[bytes, dict[int, bytes]]) -> None:
        for peer, pieces in shards.items():
            await self._keep().replace(peer.hex(), pieces)
        shards.clear()

    async def _delta(self, peer: bytes, delta: HoldingsDelta) -> None:
        epoch, seq = self._heard.get(peer, (0, 0))
        if len(delta.added) % ID or len(delta.removed) % ID:
            return
        pending = peer in self._asked
        if not pending and (delta.epoch != epoch or delta.after > seq):
            await self._ask(peer, delta.epoch)
            return
        await self._keep().change(peer.hex(), cut(delta.added, ID), cut(delta.removed, ID))
        if not pending:
            self._heard[peer] = (epoch, max(seq, delta.seq))

    async def _stated(self, peer: bytes, said: Holdings) -> None:
        final = peer in self._asked
        self._asked.discard(peer)
        if not final and self._heard.get(peer, (0, 0)) != (said.epoch, said.seq):
            await self._ask(peer, said.epoch)
            return
        self._heard[peer] = (said.epoch, said.seq)
        await self._keep().hear(peer.hex(), said.epoch, said.seq, said.report)

    async def _ask(self, peer: bytes, epoch: int) -> None:
        """Ask for what we missed; of another life of the peer, with what we remember."""
        known, seq = self._heard.get(peer, (0, 0))
        checks = b"" if known == epoch else await self._keep().checks(peer.hex())
        self._asked.add(peer)
        self._links.send(peer, HoldingsGet(known, seq, checks))

    def _keep(self) -> KeeperPort:
        if self.keeper is None:
            raise RuntimeError("nothing is taken before the keeper is there")
        return self.keeper

    # --- custody -------------------------------------------------------------------------------
    async def release(self, blob: bytes, holders: Iterable[bytes]) -> bool:
        """Ask linked holders to keep a blob; whether it may be dropped now.

        After True ``custody.done`` must be called, whatever becomes of the drop.
        """
        linked = [peer for peer in holders if peer in self._links.control]
        asked = self.custody.ask(blob, linked)
        if not asked:
            return False
        event, verdict = trio.Event(), list[bool]()
        self._released[blob] = (event, verdict)
        try:
            for peer, message in asked:
                self._links.send(peer, message)
            with trio.move_on_after(RELEASE_TIMEOUT):
                await event.wait()
        except trio.Cancelled:
            if verdict:
                self.custody.done(blob, gone=False)
            raise
        finally:
            waiting = self._released.get(blob)
            if waiting is not None and waiting[0] is event:  # else a new wish is under way already
                del self._released[blob]
                self.custody.withdraw(blob)
        return bool(verdict)

    # --- safety --------------------------------------------------------------------------------
    async def secure(
        self, peer: bytes, author: bytes, incarnation: int, seq: int, blobs: Sequence[bytes]
    ) -> bool:
        """Ask a linked member to get a chain and blobs; whether it says that it has."""
        if peer not in self._links.control:
            return False
        self._request += 1
        request, event, verdict = self._request, trio.Event(), list[bool]()
        self._secured[request] = (peer, event, verdict)
        try:
            self._links.send(peer, Secure(request, author, incarnation, seq, tuple(blobs)))
            await event.wait()
        finally:
            del self._secured[request]
        return verdict == [True]

    async def _secure(self, peer: bytes, asked: Secure) -> None:
        durable = False
        try:
            if self.keeper is not None:
                author = asked.author.hex()
                durable = await self.keeper.secure(
                    author, asked.incarnation, asked.seq, asked.blobs
                )
        except RegistryError as error:
            log.info("mesh.not_secured", peer=peer.hex(), why=str(error))
        finally:
            self._secures[peer] -= 1
        self._links.send(peer, Secured(asked.request, durable))


def cut(data: bytes, size: int) -> list[bytes]:
    """Cut bytes into equal parts."""
    return [data[at : at + size] for at in range(0, len(data), size)]
