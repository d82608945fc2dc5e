"""What was fetched becomes facts, many to a record: a cold install fetches hundreds of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from store.errors import RegistryError
from store.facts import Fact

log = structlog.get_logger(__name__)
ACTOR = "upstream"
BATCH = 200  # facts in one transaction


class Append(Protocol):
    """Where facts go."""

    async def __call__(self, facts: Sequence[Fact], *, actor: str) -> object: ...


class Recorder:
    """Writes facts in groups: while one transaction is under way, the next gathers."""

    def __init__(self, append: Append) -> None:
        self._append = append
        self._waiting: list[tuple[Sequence[Fact], trio.Event, list[RegistryError]]] = []
        self._turn = trio.Lock()

    async def record(self, facts: Sequence[Fact]) -> None:
        """Write facts; return when they are durable.  Raises what the ledger raises."""
        done, failed = trio.Event(), list[RegistryError]()
        self._waiting.append((facts, done, failed))
        while not done.is_set():
            async with self._turn:
                if not done.is_set():
                    await self._write()
        if failed:
            raise failed[0]

    async def _write(self) -> None:
        group = self._waiting[:BATCH]
        del self._waiting[: len(group)]
        facts = [fact for each, _, _ in group for fact in each]
        try:
            with trio.CancelScope(shield=True):  # others of the group would never hear of it
                await self._append(facts, actor=ACTOR)
        except RegistryError as error:
            log.warning("what upstream sent was not recorded", error=str(error), facts=len(facts))
            for _, _, failed in group:
                failed.append(error)
        finally:
            for _, done, _ in group:
                done.set()
