"""Resumable upload sessions: node-local files that grow, hashed as they grow.

A session survives a restart: its bytes are on disk, and what was hashed in memory is hashed again.
A broken connection keeps the bytes that arrived; the client asks for the offset and goes on.
One request works on a session at a time: nothing may grow while, or after, it becomes a blob.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from formats.contract import Session
from node.blobs import Blobs
from store.blobs import Ingested
from store.digest import Digest
from store.disk import disk_errors, write_all
from store.errors import DigestMismatchError, RejectedError, SessionUnknownError
from store.intake import Intake

BATCH = 1 << 20  # bytes handed to a worker thread at once
CROWD, BATCH_CROWD = 16, 256 << 10  # sessions at work from which on it is fewer: memory is shared
PIECES_MAX = 256  # in a batch, however small they are
LIVE_COUNT = 512  # sessions whose hashing state is kept in memory
LIVE_MAX = 64 << 20  # bytes of it; a session without it is hashed again at its next piece
EXPIRES = 24 * 3600.0  # seconds without an append


class Ticket(msgspec.Struct):
    """Who a session belongs to; stored beside its bytes."""

    repository: str
    package: str
    checksums: tuple[str, ...]


@dataclass(slots=True)
class Live:
    """The hashing state of a session, and how many bytes it covers."""

    intake: Intake
    size: int


class Sessions:
    """All sessions of a node."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._root, self._blobs = root, blobs
        self._live: OrderedDict[str, Live] = OrderedDict()
        self._busy: set[str] = set()
        root.mkdir(parents=True, exist_ok=True)

    def of(self, repository: str, checksums: Sequence[str]) -> RepositoryUploads:
        """The sessions of one repository."""
        return RepositoryUploads(self, repository, tuple(checksums))

    def create(self, ticket: Ticket) -> Session:
        """Open a session."""
        session = uuid.uuid4().hex
        with disk_errors():
            self._data(session).touch(mode=0o600)
            self._ticket(session).write_bytes(msgspec.json.encode(ticket))
        return Session(session, 0)

    def status(self, session: str) -> tuple[Session, Ticket]:
        """Where a session stands.  Raises SessionUnknownError."""
        if not (len(session) == 32 and session.isascii() and session.isalnum()):
            raise SessionUnknownError("no such upload session")
        try:
            ticket = msgspec.json.decode(self._ticket(session).read_bytes(), type=Ticket)
            size = self._data(session).stat().st_size
        except (FileNotFoundError, msgspec.DecodeError):
            raise SessionUnknownError("no such upload session") from None
        return Session(session, size), ticket

    async def append(self, session: str, chunks: AsyncIterator[bytes]) -> Session:
        """Add bytes at the end; one writer at a time.  What arrived before an error stays."""
        _, ticket = self.status(session)
        with self._alone(session):
            return await self._append(session, ticket, chunks)

    @contextmanager
    def _alone(self, session: str) -> Generator[None]:
        """Keep other requests off a session.  Raises RejectedError when one is at it."""
        if session in self._busy:
            raise RejectedError("another request is working on this upload session")
        self._busy.add(session)
        try:
            yield
        finally:
            self._busy.discard(session)

    async def _append(self, session: str, ticket: Ticket, chunks: AsyncIterator[bytes]) -> Session:
        live = await self._resume(session, ticket)
        with disk_errors():
            descriptor = os.open(self._data(session), os.O_WRONLY | os.O_CLOEXEC)
        waiting, size = list[bytes](), 0  # not joined: growing buffers would leave holes in memory
        try:
            try:
                async for chunk in chunks:
                    waiting.append(chunk)
                    size += len(chunk)
                    if size >= self._batch or len(waiting) >= PIECES_MAX:
                        full, waiting, size = waiting, [], 0
                        await trio.to_thread.run_sync(_extend, descriptor, live, full)
            finally:  # also what came before the client left, or a poor link would never get on
                if waiting:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(_extend, descriptor, live, waiting)
        finally:
            # A write that failed half-way leaves hashing behind the file: start that over.
            if live.size != os.fstat(descriptor).st_size:
                self._live.pop(session, None)
            os.close(descriptor)
        return Session(session, live.size)

    @property
    def _batch(self) -> int:
        return BATCH if len(self._busy) <= CROWD else BATCH_CROWD

    async def _resume(self, session: str, ticket: Ticket) -> Live:
        live = self._live.get(session)
        try:
            size = self._data(session).stat().st_size
        except FileNotFoundError:
            raise SessionUnknownError("no such upload session") from None
        if live is None or live.size != size:
            intake = Intake(checksums=[each for each in ticket.checksums if each != "sha256"])
            live = Live(intake, 0)
            if size:
                await trio.to_thread.run_sync(_rehash, self._data(session), live)
            self._live[session] = live
        self._live.move_to_end(session)
        while len(self._live) > 1 and self._crowded():
            self._live.popitem(last=False)
        return live

    def _crowded(self) -> bool:
        weights = (live.intake.weight for live in self._live.values())
        return len(self._live) > LIVE_COUNT or sum(weights) > LIVE_MAX

    async def finish(self, session: str, ticket: Ticket, expected: Digest | None) -> Ingested:
        """Verify the bytes and make them a blob.  A mismatch leaves the session as it was."""
        with self._alone(session):
            live = await self._resume(session, ticket)
            ingested = live.intake.finish()
            self._live.pop(session, None)  # finished state cannot grow
            await trio.to_thread.run_sync(_judge, self._data(session), ingested, expected)
            await self._blobs.store.adopt(self._data(session), ingested.digest)
            await self._blobs.index.record(ingested)
            with disk_errors():
                self._ticket(session).unlink(missing_ok=True)
        return ingested

    def forget(self, session: str) -> None:
        """Drop a session and its bytes.  Raises RejectedError while a request works on it."""
        with self._alone(session), disk_errors():
            self._live.pop(session, None)
            self._data(session).unlink(missing_ok=True)
            self._ticket(session).unlink(missing_ok=True)

    def sweep(self, now: float | None = None) -> int:
        """Drop sessions that nobody has touched for a day; returns how many."""
        limit = (now if now is not None else time.time()) - EXPIRES
        newest: dict[str, float] = {}
        for each in self._root.iterdir():
            with suppress(FileNotFoundError):
                newest[each.stem] = max(newest.get(each.stem, 0.0), each.stat().st_mtime)
        dropped = 0
        for session, at in newest.items():
            with suppress(RejectedError):  # somebody is working on it after all
                if at < limit:
                    self.forget(session)
                    dropped += 1
        return dropped

    def _data(self, session: str) -> Path:
        return self._root / f"{session}.data"

    def _ticket(self, session: str) -> Path:
        return self._root / f"{session}.json"


def _extend(descriptor: int, live: Live, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        data = memoryview(piece)
        with disk_errors():
            write_all(descriptor, data, live.size)
        live.intake.update(data)
        live.size += len(data)


def _rehash(file: Path, live: Live) -> None:
    with file.open("rb") as opened:
        while data := opened.read(BATCH):
            live.intake.update(memoryview(data))
            live.size += len(data)


def _judge(file: Path, ingested: Ingested, expected: Digest | None) -> None:
    """Compare with what the client expects, and make the bytes durable."""
    if expected is not None:
        actual = ingested.checksums.get(expected.algorithm)
        if actual is None:
            actual = _checksum(file, expected.algorithm)
        if actual != expected.hex:
            raise DigestMismatchError(expected, Digest(expected.algorithm, actual))
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with disk_errors():
            os.fchmod(descriptor, 0o644)  # like every blob: anybody may read the folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(file: Path, algorithm: str) -> str:
    intake = Intake(checksums=[algorithm])
    _rehash(file, Live(intake, 0))
    return intake.finish().checksums[algorithm]


class RepositoryUploads:
    """The ``Uploads`` of the format contract: sessions that belong to one repository."""

    def __init__(self, sessions: Sessions, repository: str, checksums: tuple[str, ...]) -> None:
        self._sessions, self._repository, self._checksums = sessions, repository, checksums

    async def create(self, package: str) -> Session:
        """Open a session that belongs to ``package``."""
        return self._sessions.create(Ticket(self._repository, package, self._checksums))

    async def status(self, session: str, package: str) -> Session:
        """Raises SessionUnknownError, also when it belongs elsewhere."""
        return self._own(session, package)[0]

    async def finish(self, session: str, package: str, expected: Digest | None = None) -> Ingested:
        """Verify and store the bytes."""
        _, ticket = self._own(session, package)
        return await self._sessions.finish(session, ticket, expected)

    async def abort(self, session: str, package: str) -> None:
        """Forget the session."""
        self._own(session, package)
        self._sessions.forget(session)

    def _own(self, session: str, package: str) -> tuple[Session, Ticket]:
        found, ticket = self._sessions.status(session)
        if (ticket.repository, ticket.package) != (self._repository, package):
            raise SessionUnknownError("no such upload session")
        return found, ticket
