"""Prefetching: lists and lock files become wishes, wishes are fetched, and what follows from them.

Lists are settings of the mesh, so every node knows them; each site fetches once (errands), and
where blobs belong is for placement to say.  What stays listed is asked for again as it ages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import structlog
import trio

from formats.remote import Wish
from store.errors import RegistryError
from store.rows import SettingRow

log = structlog.get_logger(__name__)
KIND = "mirror"
AT_ONCE = 6  # fetches of one run
WISHES_MAX = 200_000  # of one run
TROUBLES_MAX = 50  # told of one run
EVERY_MIN = 300.0  # seconds between runs of a list that is kept fresh


class MirrorList(msgspec.Struct, kw_only=True):
    """A list to mirror into a remote repository."""

    repository: str
    name: str  # of the file, which tells its kind
    text: str
    every: float = 0.0  # seconds after which it is done again; 0: once

    @property
    def key(self) -> str:
        """The setting's key."""
        return f"{self.repository}/{self.name}"


@dataclass(slots=True)
class Run:
    """How far one list has got on this node."""

    began: float
    done: int = 0
    failed: int = 0
    left: int = 0
    ended: bool = False
    troubles: list[str] = field(default_factory=list[str])


class Answers(Protocol):
    """One remote repository."""

    def wishes(self, name: str, text: str) -> Sequence[Wish]: ...

    async def wish(self, wish: Wish) -> Sequence[Wish]: ...


class Settings(Protocol):
    """What mirroring needs of the catalog."""

    async def settings(self, kind: str) -> Iterable[SettingRow]: ...


class Mirrors:
    """The lists of this node's mesh, and their runs here."""

    def __init__(self, open_repository: Callable[[str], Answers | None]) -> None:
        self._open = open_repository
        self.runs: dict[str, Run] = {}

    def check(self, wanted: MirrorList) -> int:
        """How many wishes a list holds.  Raises RejectedError, for one that cannot be read."""
        answers = self._open(wanted.repository)
        return len(answers.wishes(wanted.name, wanted.text)) if answers is not None else 0

    async def run(self, wanted: MirrorList) -> Run:
        """Fetch what a list names and all that follows from it."""
        run = self.runs[wanted.key] = Run(trio.current_time())
        answers = self._open(wanted.repository)
        if answers is None:
            run.ended = True
            return run
        try:
            waiting = deque(answers.wishes(wanted.name, wanted.text))
            await self._fetch_all(answers, waiting, run)
        except RegistryError as error:
            _note(run, str(error))
        finally:
            run.ended = True
        log.info("mirrored", list=wanted.key, done=run.done, failed=run.failed)
        return run

    async def _fetch_all(self, answers: Answers, waiting: deque[Wish], run: Run) -> None:
        """Work through wishes and what follows, a few at a time, each path once."""
        seen = {each.path for each in waiting}
        limiter = trio.Semaphore(AT_ONCE)

        async def one(wish: Wish) -> None:
            try:
                following = await answers.wish(wish)
            except RegistryError as error:
                _note(run, f"{wish.path[:200]}: {error}")
            except Exception as error:  # a bug that some upstream has found: it stays that file's
                log.exception("a mirrored fetch crashed", path=wish.path[:200])
                _note(run, f"{wish.path[:200]}: {type(error).__name__}: {error}")
            else:
                run.done += 1
                for each in following:
                    if each.path not in seen and len(seen) < WISHES_MAX:
                        seen.add(each.path)
                        waiting.append(each)
            finally:
                run.left -= 1
                limiter.release()

        while waiting:
            async with trio.open_nursery() as nursery:
                while waiting:
                    await limiter.acquire()
                    run.left = len(waiting)
                    nursery.start_soon(one, waiting.popleft())

    async def keep(self, settings: Settings, pause: float = 60.0) -> None:
        """Run every list when it is due, until cancelled."""
        while True:
            try:
                for row in await settings.settings(KIND):
                    await self._run_if_due(row)
            except RegistryError as error:
                log.warning("mirroring failed", error=str(error))
            await trio.sleep(pause)

    async def _run_if_due(self, row: SettingRow) -> None:
        try:
            wanted = msgspec.json.decode(row.value, type=MirrorList)
        except msgspec.DecodeError:
            return  # of a newer node
        last = self.runs.get(wanted.key)
        again = wanted.every and last and trio.current_time() - last.began >= wanted.every
        if last is None or again:
            await self.run(wanted)


def _note(run: Run, trouble: str) -> None:
    run.failed += 1
    if len(run.troubles) < TROUBLES_MAX:
        run.troubles.append(trouble[:500])
