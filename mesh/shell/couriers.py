"""Couriers at work on links: statements of what is lacked, and who may carry what.

Spec: docs/mesh.md §13.7.  What to fetch and to let go of, and when, is the node's
(``node.placement.couriers``); this hears, says and remembers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from mesh.cargo import BLOBS_MAX, CARRY_MAX, Brought, Carry, Carrying, Lack, Lacks
from mesh.couriers import TOLD_MAX, Assembly, Cargo, Wish, statement
from mesh.leases import Doubts, Leases, Wait, Waits
from mesh.messages import FEATURE_COURIER, Message
from mesh.ports import LedgerPort
from mesh.shell.links import Links
from store import disk
from store.root import COURIER

FILE = "couriers.state"
LACK_SIZE = 56  # bytes that one wish takes, about
TELL_RATE = 2000.0  # bytes per second that statements may take on a link, after the first
ANSWER_TIMEOUT = 10.0  # seconds that a holder has to say who carries what


class Saved(msgspec.Struct):
    """What outlives the process."""

    wishes: list[tuple[bytes, tuple[bytes, bytes, int, float, int, int, bool, bool]]] = []
    carried: dict[bytes, int] = {}
    waits: list[tuple[bytes, int, float]] = []


@dataclass(frozen=True, slots=True)
class Told:
    """What a courier was last told: on the link that came up then, at what time."""

    link: float
    at: float
    said: frozenset[tuple[bytes, bool]]


class Couriers:
    """Both sides: who lacks something, and who carries it.

    ``news`` is set, and replaced, whenever something was heard that may call for work.
    """

    links: Links

    def __init__(self, ledger: LedgerPort, directory: Path | None, *, on: bool | None) -> None:
        self.cargo = Cargo(bytes.fromhex(ledger.node), 0)
        self.leases, self.waits, self.doubts = Leases(), Waits(), Doubts()
        self.brought: dict[bytes, dict[bytes, None]] = {}  # peer → blobs that it has for us
        self.news = trio.Event()
        self._ledger, self._on = ledger, on
        self._path = None if directory is None else directory / FILE
        self._assemblies: dict[bytes, Assembly] = {}
        self._told: dict[bytes, Told] = {}
        self._said: dict[bytes, tuple[float, set[bytes]]] = {}
        self._asked: dict[int, tuple[bytes, trio.Event, list[bytes]]] = {}
        self._request = 0

    # --- who -----------------------------------------------------------------------------------
    @property
    def carrying(self) -> bool:
        """Whether this node carries for others: told to, or by its role."""
        if self._on is not None:
            return self._on
        return COURIER in self._ledger.authority.roles(self._ledger.node)

    @property
    def features(self) -> int:
        """What links are told of that."""
        return FEATURE_COURIER if self._on else 0

    def linked(self) -> list[bytes]:
        """Return the couriers that are linked now."""
        return [peer for peer in self.links.control if self._is_courier(peer)]

    def _is_courier(self, peer: bytes) -> bool:
        connection = self.links.control.get(peer)
        said = connection.link.peer if connection is not None else None
        if said is not None and said.features & FEATURE_COURIER:
            return True
        return COURIER in self._ledger.authority.roles(peer.hex())

    def is_member(self, node: bytes) -> bool:
        """Tell whether wishes may be for, or from, a node."""
        return self._ledger.authority.is_member(node.hex())

    # --- saying --------------------------------------------------------------------------------
    def state(self, courier: bytes, lacks: Sequence[Lack]) -> None:
        """Tell a courier all that is lacked here, unless this link has heard just that.

        Long statements are repeated more rarely, however fast they change.
        """
        connection = self.links.control.get(courier)
        if connection is None:
            return
        said = frozenset((lack.blob, lack.urgent) for lack in lacks)
        now, before = trio.current_time(), self._told.get(courier)
        if before is not None and before.link == connection.established_at:
            again = before.at + len(before.said) * LACK_SIZE / TELL_RATE
            if before.said == said or now < again:
                return
        self._told[courier] = Told(connection.established_at, now, said)
        self._request += 1
        for piece in statement(self._request, int(time.time() * 1000), lacks):
            connection.send(piece)

    def told(self) -> dict[bytes, int]:
        """Return how many blobs each linked courier has been asked for on its link."""
        return {
            courier: len(told.said)
            for courier, told in self._told.items()
            if (link := self.links.control.get(courier)) and link.established_at == told.link
        }

    def bring(self, peer: bytes, blobs: Iterable[bytes]) -> None:
        """Tell a teller which of its wishes are here; each once on a link."""
        connection = self.links.control.get(peer)
        if connection is None:
            return
        since, said = self._said.get(peer, (-1.0, set[bytes]()))
        if since != connection.established_at:
            said = set()
        fresh = [blob for blob in blobs if blob not in said]
        self._said[peer] = (connection.established_at, said | set(fresh))
        for start in range(0, len(fresh), BLOBS_MAX):
            connection.send(Brought(tuple(fresh[start : start + BLOBS_MAX])))

    async def ask(self, holder: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
        """Ask a holder whether to carry blobs to targets; return those that it grants."""
        granted: set[bytes] = set()
        for start in range(0, len(pairs), CARRY_MAX):
            part = pairs[start : start + CARRY_MAX]
            blobs, targets = tuple(b for b, _ in part), tuple(t for _, t in part)
            self._request += 1
            request, event, found = self._request, trio.Event(), list[bytes]()
            self._asked[request] = (holder, event, found)
            try:
                self.links.send(holder, Carry(request, blobs, targets))
                with trio.move_on_after(ANSWER_TIMEOUT):
                    await event.wait()
            finally:
                del self._asked[request]
            granted |= set(found) & set(blobs)
        return granted

    # --- hearing -------------------------------------------------------------------------------
    def heard(self, peer: bytes, message: Message) -> None:
        """Take a message."""
        match message:
            case Lacks():
                self._hear_lacks(peer, message)
            case Brought():
                self._hear_brought(peer, message)
            case Carry():
                self._hear_carry(peer, message)
            case Carrying():
                asked = self._asked.get(message.request)
                if asked is not None and asked[0] == peer:
                    asked[2].extend(message.blobs)
                    asked[1].set()
            case _:
                pass

    def _hear_lacks(self, peer: bytes, said: Lacks) -> None:
        if not self.carrying:
            return
        whole = self._assemblies.setdefault(peer, Assembly()).take(said)
        if whole is not None:
            now = time.time()
            self.cargo.stated(peer, said.stated_ms, whole, now, self.is_member)
            self.wake()

    def _hear_brought(self, peer: bytes, said: Brought) -> None:
        known = self.brought.setdefault(peer, {})
        known.update(dict.fromkeys(said.blobs[: max(0, TOLD_MAX - len(known))]))
        self.wake()

    def _hear_carry(self, peer: bytes, said: Carry) -> None:
        """Who is linked with us needs nobody to carry for it.

        Who is no courier is granted nothing: leases are few, and would keep the couriers away.
        """
        pairs = zip(said.blobs, said.targets, strict=False)
        courier, linked = self._is_courier(peer), self.links.control
        away = [blob for blob, target in pairs if courier and target not in linked]
        granted = self.leases.grant(peer, away, time.time())
        self.links.send(peer, Carrying(said.request, granted))

    def wake(self) -> None:
        """Let those look who wait for news."""
        news, self.news = self.news, trio.Event()
        news.set()

    def tidy(self, now: float) -> None:
        """Forget what has lapsed, and who has gone."""
        self.cargo.expire(now)
        self.cargo.keep(self.is_member)
        self.waits.expire(now)
        for known in (self._assemblies, self._told, self._said, self.brought):
            for peer in [peer for peer in known if peer not in self.links.control]:
                del known[peer]

    # --- remembering ---------------------------------------------------------------------------
    async def load(self) -> None:
        """Read what was saved.  A damaged file is as good as none."""
        if self._path is None:
            return
        try:
            data = await trio.to_thread.run_sync(self._path.read_bytes)
            saved = msgspec.msgpack.decode(data, type=Saved)
        except (FileNotFoundError, msgspec.MsgspecError):
            return
        if self.cargo.carried or self.cargo.wishes:
            return  # begun again in the same process, which knows better
        for teller, wish in saved.wishes:
            self.cargo.wishes.setdefault(teller, {})[wish[0]] = Wish(*wish)
        self.cargo.carried = saved.carried
        self.waits.blobs.update((blob, Wait(size, until)) for blob, size, until in saved.waits)
        self.cargo.expire(time.time())

    def snapshot(self) -> bytes:
        """Return what is to be saved."""
        wishes = [
            (
                teller,
                (w.blob, w.target, w.size, w.expires, w.stated_ms, w.hops, w.urgent, w.guessed),
            )
            for teller, told in self.cargo.wishes.items()
            for w in told.values()
        ]
        waits = [(blob, wait.size, wait.until) for blob, wait in self.waits.blobs.items()]
        return msgspec.msgpack.encode(Saved(wishes, self.cargo.carried, waits))

    async def save(self, data: bytes) -> None:
        """Write a snapshot.  Raises StoreFullError, ReadOnlyError."""
        if self._path is not None:
            await trio.to_thread.run_sync(_replace, self._path, data)


def _replace(path: Path, data: bytes) -> None:
    """Write whole or not at all.  Not synced: what is lost is told and carried again."""
    with disk.disk_errors():
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
