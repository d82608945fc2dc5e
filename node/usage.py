"""Counting downloads: in memory, every minute in the local database, every hour in the ledger.

A download is a GET that sends a file from its first byte on: heads, answers of "not modified" and
the later parts of a file fetched in ranges are none.  Every read tells when a version was used.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import structlog
import trio

from node.packages.observe import Observation
from store.errors import DeniedError, RegistryError
from store.facts import Used
from store.ledger import Ledger
from store.rows import Artifact
from store.usage import Usage, UsageLog, VersionKey

KEEP = 60.0  # seconds between looks at what was counted: what a crash may lose
TELL = 3600.0  # seconds between records about it
TOLD_MAX = 5000  # versions told at a time: records are for ever, and a crawler reads everything
STOP = 5.0  # seconds to write down and tell what is known, at the end
COUNTED_MAX = 50_000  # versions that wait to be kept; more are not counted
ARRIVING_MAX = 1000  # files whose names are known only once they are kept
log = structlog.get_logger(__name__)


class UsageCounter:
    """Counts what one node serves.

    ``primary`` says which of a format's files are the thing itself: only those are downloads.
    """

    def __init__(self, kept: UsageLog, ledger: Ledger, primary: Callable[[str, str], bool]) -> None:
        self.kept, self._ledger, self._primary = kept, ledger, primary
        self._counted: dict[VersionKey, tuple[int, int]] = {}
        self._arriving: list[Callable[[], Artifact | None]] = []
        self._turn = trio.Lock()

    # --- counting --------------------------------------------------------------------------------
    def sent(self, artifact: Artifact, *, begun: bool) -> None:
        """Note that a file was sent; ``begun``: from its first byte on."""
        key = VersionKey(artifact.repository, artifact.package, artifact.version)
        if key not in self._counted and len(self._counted) >= COUNTED_MAX:
            return
        counts = begun and self._primary(artifact.repository, artifact.role)
        before = self._counted.get(key, (0, 0))[0]
        self._counted[key] = (before + counts, int(time.time() * 1000))

    def seen(self, observation: Observation) -> None:
        """Note what a finished request sent, if it sent a file."""
        artifact = observation.artifact
        if isinstance(artifact, Artifact):
            self.sent(artifact, begun=observation.begun)
        elif artifact is not None and observation.begun:
            self.arriving(artifact)

    def arriving(self, artifact: Callable[[], Artifact | None]) -> None:
        """Note that a file was sent while it came from upstream; it has a name once it is kept."""
        if len(self._arriving) < ARRIVING_MAX:
            self._arriving.append(artifact)

    # --- asking ----------------------------------------------------------------------------------
    async def usage(self, repository: str, package: str, version: str | None = None) -> Usage:
        """Downloads of a version (None: of a package), on all nodes together, and the last use."""
        await self.keep()
        return await self.kept.usage(repository, package, version)

    # --- keeping ---------------------------------------------------------------------------------
    async def run(self) -> None:
        """Keep and tell until cancelled, and once more at the end."""
        told = trio.current_time()
        try:
            while True:
                await trio.sleep(KEEP)
                await self._quietly(self.keep)
                if trio.current_time() >= told + TELL:
                    told = trio.current_time()
                    await self._quietly(self.tell)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP):
                await self._quietly(self.tell)

    async def _quietly(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except RegistryError as error:  # a full disk, or no right to write: counting goes on
            log.warning("usage.not_kept", error=str(error))

    async def keep(self) -> None:
        """Write down what was counted, on this node."""
        async with self._turn:
            waiting, self._arriving = self._arriving, []
            for each in waiting:
                artifact = each()
                if artifact is not None:
                    self.sent(artifact, begun=True)
            counted, self._counted = self._counted, {}
            if not counted:
                return
            try:
                await self.kept.add(counted)
            except BaseException:  # a cancellation, too: what was counted is not lost
                for key, (number, last) in counted.items():  # for the next time
                    more, later = self._counted.get(key, (0, 0))
                    self._counted[key] = (number + more, max(last, later))
                raise

    async def tell(self) -> int:
        """Say in the ledger what it does not say yet; returns how many versions.

        What is beyond TOLD_MAX waits for the next time: what was used longest ago goes first.
        """
        await self.keep()
        told = looked = 0
        async with self._turn:
            while looked < TOLD_MAX and (untold := await self.kept.untold()):
                looked += len(untold)
                for fact in self.kept.facts(untold):
                    told += await self._say(fact)
                await self.kept.tell_done(untold)
        return told

    async def _say(self, fact: Used) -> int:
        """Write one record; where this node may not write, its counts stay its own."""
        try:
            await self._ledger.append([fact], actor="usage")
        except DeniedError as error:
            log.debug("usage.not_said", repository=fact.repository, error=str(error))
            return 0
        return len(fact.uses)
