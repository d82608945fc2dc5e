"""Deltas on this node: made in the background, kept on a shelf, offered by the mesh.

Made of what is here, one at a time, in a process that gives way to all others: when a file is
published, and when a member looks for a blob; if a linked member is known to hold the basis only,
over a link on which the whole would take longer than the making, or on which bytes cost.  What does
not pay is left alone for a while, and all of it has so much of a core.

Docs: docs/delta.md.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from mesh.deltas import SPARED_MIN
from mesh.status import LinkStatus
from node.payback import PAYS, Allowance, Payback
from store.changes import Change
from store.delta_forms import PLAIN, UNPACKED
from store.digest import Digest
from store.errors import BlobUnknownError, DeltaInvalidError, RegistryError
from store.files import FileStore
from store.fold import FILE
from store.holders import Holders
from store.shelf import OFFERS_MAX, Shelf
from store.siblings import Siblings

if TYPE_CHECKING:
    from mesh.service import Mesh

RATIO = 0.98  # of the blob's size, that a delta may have at most
MAKE_MAX = 256 << 20  # bytes of a blob: what may be made of a larger one in its time does not pay
MAKE_RATE = 1e6  # bytes per second of the blob that deltas are made at
FORMS = (PLAIN, UNPACKED)
BASES = 2  # older blobs that deltas are made from
QUEUE = 256  # blobs that wait for a delta; beyond that, they are made for who asks
SEEN_MAX = 8192  # blobs remembered that need not be looked at again
TIDY = 600.0  # seconds between looks for deltas that are of no use any more
AGAIN = 15.0  # seconds between looks at blobs that nobody could use a delta of when published
AGAIN_MAX = 5  # such looks: it takes a while until all know what the others have
ROOT = Path(__file__).resolve().parents[1]  # where the other process finds ``store``
TIME_MAX = 300.0  # seconds that one may take: of a core it has a fifth of that
log = structlog.get_logger(__name__)
Make = Callable[[Digest, Digest, Path, int], Awaitable[None]]
Useful = Callable[[Digest, Digest], Awaitable[bool]]  # of a basis and a blob


class DeltaKeeper:
    """``mesh.ports.ShelfPort``, and the worker behind it."""

    def __init__(self, shelf: Shelf, store: FileStore, siblings: Siblings) -> None:
        self.shelf, self.made = shelf, 0
        self.tell: Callable[[bytes], None] = lambda _: None  # the mesh, of a new delta
        self.linked: Callable[[], Sequence[str]] = list
        self.make: Make = self._in_process
        self.useful: Useful = everybody
        self._store, self._siblings = store, siblings
        self.allowance, self.payback = Allowance(), Payback()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._later: OrderedDict[bytes, int] = OrderedDict()  # blob → looks at it so far
        self._waiting: set[bytes | tuple[str, str]] = set()
        self._sender, self._queue = trio.open_memory_channel[bytes | tuple[str, str]](QUEUE)

    def attach(self, mesh: Mesh, holders: Holders) -> None:
        """Work for a mesh: for members that are known to hold a basis, and not the blob."""
        self.tell, self.linked = mesh.deltas.made, mesh.linked

        async def useful(basis: Digest, blob: Digest) -> bool:
            found = await holders.of([basis.raw, blob.raw])
            slow = {path.node for path in mesh.insight.paths() if worth(path)}
            return bool((found[basis.raw] - found[blob.raw]) & set(mesh.linked()) & slow)

        self.useful = useful

    async def run(self, mesh: Mesh | None = None) -> None:
        """Work until cancelled; offer nothing before the shelf has been looked through."""
        try:
            await self.shelf.open()
        except (RegistryError, OSError) as error:
            log.warning("deltas.off", why=str(error))
            return
        if mesh is not None:
            mesh.deltas.shelf = self
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tidy_forever)
            nursery.start_soon(self._again_forever)
            async for wish in self._queue:
                try:
                    await self._grant(wish)
                except (RegistryError, OSError) as error:
                    log.warning("deltas.not_made", why=str(error))
                finally:
                    self._waiting.discard(wish)

    async def _tidy_forever(self) -> None:
        while True:
            await trio.sleep(TIDY)
            try:
                await self.shelf.tidy()
            except (RegistryError, OSError) as error:
                log.warning("deltas.not_tidied", why=str(error))

    async def _again_forever(self) -> None:
        while True:
            await trio.sleep(AGAIN)
            if self.linked():
                for blob in list(self._later):
                    self._put(blob)

    # --- what the mesh asks --------------------------------------------------------------------
    def offers(self, blob: bytes) -> Sequence[tuple[bytes, bytes, int, int]]:
        """Return (basis, delta, size, work) of those that make a blob, the smallest first."""
        kept = sorted(self.shelf.of(blob), key=lambda each: each.size)[:OFFERS_MAX]
        for each in kept:
            each.used = time.time()
        return [(each.basis.raw, each.digest.raw, each.size, each.work) for each in kept]

    def asked(self, blob: bytes) -> None:
        """A member looks for a blob that is here."""
        if blob not in self._seen:
            self._put(blob)

    async def expect(self, delta: Digest) -> bool:
        """Take a blob for a delta from now on; False if it is one of the node's own."""
        if await self._store.has(delta):
            return False
        self.shelf.expect(delta)
        return True

    async def unexpect(self, delta: Digest) -> None:
        """No longer; what came and was of no use goes."""
        self.shelf.unexpect(delta)
        await self.shelf.clear(delta)

    @property
    def folder(self) -> Path:
        """Where temporary files may lie."""
        return self.shelf.store.temporary

    @property
    def room(self) -> int:
        """How many bytes one of them may take: two at a time take as much as the deltas."""
        return self.shelf.budget // 2

    async def keep(self, delta: Digest) -> None:
        """Keep a delta that has proven right."""
        await self.shelf.keep(delta, time.time())

    # --- making --------------------------------------------------------------------------------
    async def follow(self, change: Change) -> None:
        """Take a commit: who hears of a new version soon asks for it."""
        if not self.linked():
            return
        for cell in change.touched:
            if cell.kind == FILE and cell.size >= 2 * SPARED_MIN:
                self._put((cell.repository, cell.name))

    def _put(self, wish: bytes | tuple[str, str]) -> None:
        if wish in self._waiting:
            return  # one place each, however often it is asked for
        try:
            self._sender.send_nowait(wish)
        except trio.WouldBlock:
            return  # whoever asks for it will ask again
        self._waiting.add(wish)

    async def _grant(self, wish: bytes | tuple[str, str]) -> None:
        """Make the deltas of one blob, unless they were thought of already."""
        blob = await self._siblings.at(*wish) if isinstance(wish, tuple) else Digest.sha256(wish)
        if blob is None or blob.raw in self._seen or blob in self.shelf:
            return
        try:
            size = await self._store.size(blob)
        except BlobUnknownError:
            return  # it may come
        fits = 2 * SPARED_MIN <= size <= MAKE_MAX
        bases = await self._bases(blob) if fits else []
        family = await self._siblings.family(blob)
        if bases:
            wanted = await self._wanted(bases, blob, family)
            pause = self.allowance.wait(trio.current_time())
            if wanted and pause:
                await trio.sleep(pause)  # meanwhile who would use it may get the blob, or leave
                wanted = await self._wanted(bases, blob, family)
            if not wanted:
                return  # it may be tried later
            await self._try(wanted, blob, size, family)
        self._note(blob)

    async def _wanted(self, bases: Sequence[Digest], blob: Digest, family: str) -> Sequence[Digest]:
        """Return the bases of which somebody could use a delta, if such have paid lately."""
        wanted = [basis for basis in bases if await self.useful(basis, blob)]
        if not wanted:
            self._look_again(blob)
            return []  # somebody may come
        self._later.pop(blob.raw, None)
        return [] if self.payback.resting(family, trio.current_time()) else wanted

    async def _try(self, bases: Sequence[Digest], blob: Digest, size: int, family: str) -> None:
        """Make the deltas of a blob, as long as there is some of a core to spend on them."""
        known = {each.basis for each in self.shelf.of(blob.raw)}
        for basis in bases:
            if basis in known or not await self._store.has(basis):
                continue
            if self.allowance.wait(trio.current_time()):
                break  # one is enough, and others wait
            before = spent()
            try:
                if await self._add(basis, blob, int(size * RATIO)):
                    self.tell(blob.raw)
            except (RegistryError, OSError) as error:  # it has cost as much as one that was made
                log.warning("deltas.not_made", why=str(error))
            finally:
                self.allowance.spend(spent() - before, trio.current_time())
        least = min((each.size for each in self.shelf.of(blob.raw)), default=size)
        self.payback.note(family, trio.current_time(), paid=least <= PAYS * size)

    def _look_again(self, blob: Digest) -> None:
        looks = self._later.pop(blob.raw, 0) + 1
        if looks <= AGAIN_MAX:
            self._later[blob.raw] = looks
        while len(self._later) > QUEUE:
            self._later.popitem(last=False)

    def _note(self, blob: Digest) -> None:
        """Do not look at a blob again."""
        self._seen[blob.raw] = None
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    async def _bases(self, blob: Digest) -> list[Digest]:
        found: list[Digest] = []
        for each in await self._siblings.of(blob):
            if await self._store.has(each):
                found.append(each)
                if len(found) == BASES:
                    break
        return found

    async def _add(self, basis: Digest, blob: Digest, limit: int) -> bool:
        """Make the deltas of a blob from one basis; tell whether there are any."""
        stem = self.folder / f"{basis.hex[:16]}-{blob.hex[:16]}"
        files, before = [Path(f"{stem}.{form}") for form in FORMS], self.made
        try:
            with ExitStack() as stack:
                for each in (basis, blob):
                    stack.enter_context(self._store.pin(each))
                await self.make(basis, blob, stem, limit)
            for file in files:
                if await trio.to_thread.run_sync(file.exists):
                    await self.shelf.put(file, time.time())
                    self.made += 1
        except DeltaInvalidError as error:  # the disk has it otherwise than it was made
            log.warning("deltas.not_made", why=str(error))
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove, files)
        return self.made > before

    async def _in_process(self, basis: Digest, blob: Digest, stem: Path, limit: int) -> None:
        """Make them in another process.  Raises OSError if that fails."""
        old, new = self._store.locate(basis), self._store.locate(blob)
        command = maker((basis, old), (blob, new), stem, limit, self.room)
        work = partial(trio.run_process, command, cwd=ROOT, check=False)
        with trio.move_on_after(TIME_MAX):
            done = await work(capture_stdout=True, capture_stderr=True)
            if done.returncode:
                raise OSError(f"it ended with {done.returncode}: {done.stderr[-300:]!r}")
            return
        raise OSError("it takes too long")


async def everybody(basis: Digest, blob: Digest) -> bool:
    """Take every delta for useful."""
    return True


def remove(files: Sequence[Path]) -> None:
    """Remove what is left of an attempt."""
    for file in files:
        file.unlink(missing_ok=True)


def worth(path: LinkStatus) -> bool:
    """Tell whether deltas are worth making for who is at the end of a link."""
    return path.metered or (path.sending is not None and path.sending < MAKE_RATE)


def spent() -> float:
    """Return the seconds of a core that ended child processes have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def maker(
    basis: tuple[Digest, Path], blob: tuple[Digest, Path], stem: Path, limit: int, room: int
) -> list[str]:
    """Return the command of the other process."""
    names = [str(basis[0]), str(basis[1].absolute()), str(blob[0]), str(blob[1].absolute())]
    command = [sys.executable, "-m", "store.delta_maker", *names]
    return [*command, str(stem.absolute()), str(limit), str(room)]
