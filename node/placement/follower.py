"""Follows the ledger, the blob store and the readers, and keeps the inventory true.

A commit costs a look at the files it touched and at the blobs they name.  Everything is walked
over only when the policy changes, and after a crash: a page at a time, between which others work.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from mesh.placement import Placement, Policy, Use
from node.blobs import Store
from node.placement.policy import fingerprint
from store.changes import Change
from store.digest import Digest
from store.errors import BlobUnknownError, DigestInvalidError
from store.fold import FILE
from store.holdings import PREFIXES
from store.inventory import Inventory, Placed, decayed
from store.uses import FileUse, Uses

TOUCHED_MAX = 20_000  # coordinates that wait to be judged; more, and everything is walked over
READS_MAX = 50_000  # blobs whose reads wait to be noted
FRESH_MAX = 10_000  # blobs of commits just seen, which go before what has been missing for long
GATHER = 0.2  # seconds over which changes are gathered that follow one another
DUE = 60.0  # seconds between looks at what time has changed
REST = 0.005  # seconds between the pages of a walk, for everybody else
STOP = 5.0  # seconds to write down what is known, at the end
RECONCILE = 86400.0  # seconds between looks at whether the store still is what the inventory says
log = structlog.get_logger(__name__)


class Follower:
    """Keeps one node's inventory.  ``policy`` gives what is in force now.

    ``store`` and ``has`` are asked what is on this node; ``moved`` is told of blobs that came
    (True) or went, for the members.  One task runs ``run``.
    """

    def __init__(
        self,
        inventory: Inventory,
        uses: Uses,
        store: Store,
        *,
        node: str,
        policy: Callable[[], Policy],
        marker: Path,
        moved: Callable[[dict[bytes, bool]], None],
    ) -> None:
        self.inventory, self.uses, self._store = inventory, uses, store
        self._node, self._policy_now, self._marker, self._moved = node, policy, marker, moved
        self.policy = Policy()
        self.fresh: deque[bytes] = deque(maxlen=FRESH_MAX)
        self.changed = trio.Event()  # set, and replaced, when something may be missing now
        self.settled = trio.Event()  # the first walk, if one was needed, is over
        self._touched: set[tuple[str, str]] = set()
        self._came: dict[bytes, int] = {}
        self._noted: dict[bytes, int] = {}  # what came and is being written down
        self._reads: dict[bytes, tuple[int, float]] = {}
        self._stale, self._walk_due = True, False
        self._wake = trio.Event()

    # --- hearing ---------------------------------------------------------------------------------
    async def follow(self, change: Change) -> None:
        """Take what a commit changed."""
        for cell in change.touched:
            if cell.kind == FILE:
                self._touched.add((cell.repository, cell.name))
        if len(self._touched) > TOUCHED_MAX:
            self._touched.clear()
            self._walk_due = True
        self._wake.set()

    def refresh(self) -> None:
        """Settings, members or their presence may have changed."""
        self._stale = True
        self._wake.set()

    def stored(self, digest: Digest, size: int | None) -> None:
        """A blob has come, or (None) may have gone."""
        if digest.algorithm == "sha256":
            self._came[digest.raw] = -1 if size is None else size
            self._wake.set()

    def noting(self, blob: bytes) -> bool:
        """Tell whether a blob that has come will soon stand in the inventory, with others."""
        return self._came.get(blob, -1) >= 0 or self._noted.get(blob, -1) >= 0

    def read(self, digest: Digest) -> None:
        """Somebody reads a blob."""
        if digest.algorithm == "sha256" and len(self._reads) < READS_MAX:
            count, _ = self._reads.get(digest.raw, (0, 0.0))
            self._reads[digest.raw] = (count + 1, time.time())
            if any(rule.reads_min for rule in self.policy.rules):
                self._wake.set()

    # --- working ---------------------------------------------------------------------------------
    async def run(self) -> None:
        """Work until cancelled."""
        await self.inventory.load()
        self.policy, self._stale = self._policy_now(), False
        clean = await trio.to_thread.run_sync(self._take_marker)
        if not clean:
            await self._reconcile()
        if not clean or clean != fingerprint(self.policy):
            await self._walk()
        self.settled.set()
        reconciled = trio.current_time()
        try:
            while True:
                await self.step()
                if trio.current_time() >= reconciled + RECONCILE:
                    await self._reconcile()
                    reconciled = trio.current_time()
                gather = trio.current_time() + GATHER
                with trio.move_on_after(DUE):
                    await self._wake.wait()
                    await trio.sleep_until(gather)  # what comes after a pause is judged at once
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP):
                if not (self._walk_due or self._stale):
                    await self.step()
            if not (self._touched or self._walk_due or self._stale or self._came):
                self._marker.write_text(json.dumps({"policy": fingerprint(self.policy)}))

    def _take_marker(self) -> str:
        """Return the policy that the inventory was left true to; "" if it may not be true."""
        try:
            found = str(json.loads(self._marker.read_text())["policy"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        self._marker.unlink()
        return found

    async def step(self) -> None:
        """Judge everything that has changed since the last time."""
        self._wake = trio.Event()
        if self._stale:
            self._stale = False
            now = self._policy_now()
            if now != self.policy:
                self.policy, self._walk_due = now, True
        await self.flush()
        if self._walk_due:
            self._walk_due = False
            await self._walk()
        touched, self._touched = self._touched, set()
        if touched:
            named = await self.uses.named(touched)
            self.fresh += [blob for digest in named if (blob := raw(digest)) is not None]
            await self._judge(named)
        while due := await self.inventory.due(time.time()):
            await self._judge([f"sha256:{blob.hex()}" for blob in due])
        self.wake()

    async def flush(self) -> None:
        """Write down what came, went and was read."""
        came, self._came = self._came, {}
        self._noted = came
        reads, self._reads = self._reads, {}
        try:
            here, gone = await self._hold(came)
            await self._demand(reads)
            if came:
                self._moved({**dict.fromkeys(here, True), **dict.fromkeys(gone, False)})
                await self._judge([f"sha256:{blob.hex()}" for blob in here], named_only=True)
        except BaseException:  # cancelled, too: it is not written down, or nobody was told
            self._came = {**came, **self._came}
            raise

    async def _hold(self, came: dict[bytes, int]) -> tuple[dict[bytes, int], dict[bytes, int]]:
        """Write down what came and what went; return both."""
        here = {blob: size for blob, size in came.items() if size >= 0}
        gone = {blob: 0 for blob, size in came.items() if size < 0}
        try:
            for blob in list(gone):
                with suppress(BlobUnknownError):  # in use after all: it was not collected
                    here[blob] = await self._store.size(Digest("sha256", blob.hex()))
                    del gone[blob]
            await self.inventory.hold(here)
            await self.inventory.hold(gone, held=False)
        finally:
            self._noted = {}
        return here, gone

    async def _demand(self, reads: dict[bytes, tuple[int, float]]) -> None:
        """Note reads; where a rule asks for demand, they may change a placement."""
        await self.inventory.read(reads)
        if reads and any(rule.reads_min for rule in self.policy.rules):
            await self._judge([f"sha256:{blob.hex()}" for blob in reads], named_only=True)

    def wake(self) -> None:
        """Let those look who wait for a change; whoever waits from now on waits for the next."""
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    async def judge(self, blobs: Iterable[bytes]) -> None:
        """Judge some blobs anew, at once."""
        await self._judge([f"sha256:{blob.hex()}" for blob in blobs])

    async def _judge(self, digests: Iterable[str], *, named_only: bool = False) -> None:
        asked = [digest for digest in digests if raw(digest) is not None]
        if not asked:
            return
        found = await self.uses.of(asked)
        rows = await self.inventory.rows([bytes.fromhex(digest[7:]) for digest in asked])
        now = time.time()
        verdicts: list[Placed] = []
        nobodys: list[bytes] = []
        for digest, uses in found.items():
            blob = bytes.fromhex(digest[7:])
            if not uses:
                nobodys.append(blob)
                continue
            row = rows.get(blob)
            reads = 0 if row is None else int(decayed(row, now) + 0.5)
            placed = self.place(blob, uses, now=now, reads=reads)
            size = max(use.size for use in uses)
            verdicts.append(
                Placed(blob, size, placed.rule, self._node in placed.holders, placed.due)
            )
        await self.inventory.place(verdicts)
        if not named_only:
            await self.inventory.unname(nobodys)

    def place(
        self, blob: bytes, uses: Sequence[FileUse], *, now: float, reads: int = 0
    ) -> Placement:
        """Decide where a blob belongs, by the policy in force."""
        named = [Use(u.repository, u.package, u.path, u.size, u.published) for u in uses]
        return self.policy.place(blob, f"sha256:{blob.hex()}", named, now=now, reads=reads)

    # --- walking ---------------------------------------------------------------------------------
    async def _walk(self) -> None:
        """Judge everything that the catalog names; what it names no more is forgotten."""
        began = trio.current_time()
        self.inventory.turn += 1
        for metadata in (False, True):
            last = ""
            while page := await self.uses.after(last, metadata=metadata):
                last = page[-1]
                await self._judge(page)
                self.wake()
                await trio.sleep(REST)
        while unseen := await self.inventory.unseen():
            await self.inventory.unname(unseen)
        log.info("placement.walked", seconds=round(trio.current_time() - began, 3))

    async def _reconcile(self) -> None:
        """Make the inventory say what the store really holds."""
        for index, prefix in enumerate(PREFIXES):
            there = {each.digest.raw: each.size for each in await self._store.shard(prefix)}
            known = await self.inventory.held(index)
            new = {blob: size for blob, size in there.items() if known.get(blob) != size}
            gone = {blob: 0 for blob in known if blob not in there and blob not in self._came}
            await self.inventory.hold(new)
            await self.inventory.hold(gone, held=False)
            self._moved({**dict.fromkeys(new, True), **dict.fromkeys(gone, False)})
            await trio.lowlevel.checkpoint()


def raw(digest: str) -> bytes | None:
    """Return the bytes of a SHA-256 digest, or None for any other."""
    try:
        found = Digest.parse(digest)
    except DigestInvalidError:
        return None
    return found.raw if found.algorithm == "sha256" else None
