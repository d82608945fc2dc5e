"""What the mesh remembers between two lives of the node.

Invitations, addresses of members, what peers have done to us, and how their paths were.

One small file, written whole and atomically, readable by its owner only: invitations are secrets.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import trio

from mesh.addresses import MDNS, AddressBook
from mesh.beliefs import BAN, PeerBelief
from mesh.invitation import Book, Granted
from mesh.linkhistory import HOURS, OUTAGES_MAX
from store import disk

FILE = "mesh.state"
HALFLIFE = 3600.0  # seconds after which half of what was known of a path is forgotten


class Remembered(msgspec.Struct):
    """One peer: its faults, so that coming again mends nothing, and its path as it was."""

    strikes: int = 0
    banned_until: float = 0.0  # time of day
    notes: list[str] = []
    rtt: float = 0.0  # seconds; 0: never measured
    rate: float = 0.0  # bytes per second; 0: never measured
    at: float = 0.0  # time of day when the path was like that
    up: list[float] = []  # seconds by hour of the day, as in LinkHistory
    seen: list[float] = []
    outages: list[float] = []
    outage_count: int = 0
    loss: float | None = None


class State(msgspec.Struct):
    """The file's content."""

    invitations: list[Granted] = []
    addresses: list[bytes] = []  # signed records
    hints: dict[str, list[str]] = {}  # node id → addresses that have worked
    peers: dict[str, Remembered] = {}  # node id → what we think of it
    limits: list[str] | None = None  # rules for links, if they were set while running


class Memory:
    """Loads and saves.  Without a directory nothing outlives the process."""

    def __init__(
        self,
        directory: Path | None,
        book: Book,
        addresses: AddressBook,
        beliefs: dict[bytes, PeerBelief] | None = None,
    ) -> None:
        self._path = None if directory is None else directory / FILE
        self._book = book
        self._addresses = addresses
        self._beliefs = {} if beliefs is None else beliefs
        self._lock = trio.Lock()
        self.limits: list[str] | None = None
        self.records: list[bytes] = []  # as loaded: to be judged once the ledger is open

    @property
    def faults(self) -> int:
        """How often peers have misbehaved; a crash must not wipe the slate."""
        return sum(belief.strikes for belief in self._beliefs.values())

    async def load(self) -> None:
        """Read what was saved.  A damaged file is as good as none."""
        if self._path is None:
            return
        try:
            data = await trio.to_thread.run_sync(self._path.read_bytes)
            state = msgspec.msgpack.decode(data, type=State)
        except (FileNotFoundError, msgspec.MsgspecError):
            return
        self._book.granted.update({entry.id: entry for entry in state.invitations})
        self.records = state.addresses
        self.limits = state.limits
        for node, known in state.hints.items():
            for address in reversed(known):
                self._addresses.hint(bytes.fromhex(node), address)
        for node, was in state.peers.items():
            peer = bytes.fromhex(node)
            recall(self._beliefs.setdefault(peer, PeerBelief(peer)), was)

    async def save(self) -> None:
        """Write it down.  Raises StoreFullError, ReadOnlyError."""
        if self._path is None:
            return
        now, clock = trio.current_time(), time.time()
        peers = {node.hex(): remember(each, now, clock) for node, each in self._beliefs.items()}
        state = State(
            list(self._book.granted.values()),
            self._addresses.encoded(),
            {
                node.hex(): [a for a, hint in known.items() if hint.worked or hint.origin != MDNS]
                for node, known in self._addresses.hints.items()
            },
            peers,
            self.limits,
        )
        async with self._lock:
            await trio.to_thread.run_sync(_replace, self._path, msgspec.msgpack.encode(state))


def remember(belief: PeerBelief, now: float, clock: float) -> Remembered:
    """Return what is worth keeping of a peer."""
    return Remembered(
        strikes=belief.strikes,
        banned_until=clock + belief.banned_until - now if belief.banned_until > now else 0.0,
        notes=list(belief.notes),
        rtt=belief.rtt.smoothed if belief.rtt.measured else 0.0,
        rate=belief.rate.average if belief.rate.measured else 0.0,
        at=clock,
        up=belief.history.up,
        seen=belief.history.seen,
        outages=belief.history.outages,
        outage_count=belief.history.outage_count,
        loss=belief.history.loss,
    )


def recall(belief: PeerBelief, was: Remembered) -> None:
    """Begin with what was known: faults as they are, the path the less the older it is."""
    now, clock = trio.current_time(), time.time()
    belief.strikes = was.strikes
    belief.notes.extend(was.notes)
    if was.banned_until > clock:
        belief.banned_until = now + min(was.banned_until - clock, BAN)
    history = belief.history
    if len(was.up) == len(was.seen) == HOURS:
        history.up, history.seen = list(was.up), list(was.seen)
    history.outages, history.outage_count = was.outages[-OUTAGES_MAX:], was.outage_count
    history.loss = was.loss
    weight = 0.5 ** (max(0.0, clock - was.at) / HALFLIFE)
    if was.rtt > 0:
        belief.rtt.smoothed += weight * (was.rtt - belief.rtt.smoothed)
    if was.rate > 0:
        belief.rate.average += weight * (was.rate - belief.rate.average)
        belief.recalled = weight > 0.5


def _replace(path: Path, data: bytes) -> None:
    with disk.disk_errors():
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
