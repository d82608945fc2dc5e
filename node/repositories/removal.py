"""Emptying a repository, so that one made later under its key begins with nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from node.promotion.book import BOOK, CHECKS
from store.catalog import Catalog
from store.facts import Delete, Fact, Flag, Point

BATCH = 200  # facts in one transaction


class Ledger(Protocol):
    """Where facts go."""

    async def append(self, facts: Sequence[Fact], *, actor: str) -> object: ...


async def empty(catalog: Catalog, ledger: Ledger, key: str, *, actor: str) -> None:
    """Delete every file, pointer and mark.  What a crash leaves, the next call finds.

    The repository's setting has to go last: without it, nobody could ask for the rest.
    """
    while files := await catalog.files(key, limit=BATCH):
        gone: list[Fact] = [
            Delete(key, each.path, (each.record,), "the repository is deleted") for each in files
        ]
        for package in sorted({each.package for each in files}):
            flags = await catalog.flags(key, package)
            gone += [Flag(key, package, f.version, f.path, f.name, None) for f in flags]
        await ledger.append(gone, actor=actor)
    while packages := await catalog.packages(key, limit=BATCH):  # those that pointers alone keep
        facts: list[Fact] = []
        for package in packages:
            pointers = await catalog.pointers(key, package)
            facts += [Point(key, package, each.name, None) for each in pointers]
        await ledger.append(facts, actor=actor)
    for book in (BOOK, CHECKS):
        flags = await catalog.flags(key, book)
        for start in range(0, len(flags), BATCH):
            part = flags[start : start + BATCH]
            marks = [Flag(key, book, f.version, f.path, f.name, None) for f in part]
            await ledger.append(marks, actor=actor)
