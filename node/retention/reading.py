"""Packages as policies are asked about them: hundreds by one query, a huge one through the disk.

Memory holds ``FILES_MAX`` files at a time whatever a repository or a package comes to; but where a
format must look at a whole package to tell its versions (images), that package.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

import trio

from formats.contract import Format, Repository
from formats.releases import Edition
from node.retention.policy import newest_first
from store import packaged
from store.catalog import Catalog
from store.ordered import Ordered
from store.packaged import Pointed
from store.rows import PackageRow

PAGE = 100  # packages read at once
FILES_MAX = 1000  # of them together; a package with more is put in order on the disk


class Held(NamedTuple):
    """Some versions of a package, newest first, and what pointed into it when they were read.

    A large package comes in several: its editions follow each other.
    """

    package: str
    editions: Sequence[Edition]
    large: bool = False


class Reading(NamedTuple):
    """What was read at once."""

    held: Sequence[Held]
    pointed: Pointed


async def read(
    catalog: Catalog, repository: Repository, served: Format, *, only: Sequence[str] = ()
) -> AsyncGenerator[Reading]:
    """Every version of every package, or of ``only`` those, in the order of their names."""
    async with aclosing(_groups(catalog, repository.key, only)) as groups:
        async for rows in groups:
            names = [each.package for each in rows]
            pointed = await catalog.read(
                partial(packaged.pointers_of, repository=repository.key, packages=names)
            )
            if served.releases.editions is not None:
                for name in names:
                    editions = newest_first(await served.releases.list(repository, name))
                    yield Reading([Held(name, editions)], pointed)
            elif sum(each.files for each in rows) > FILES_MAX:
                async with aclosing(_large(catalog, repository.key, served, names[0])) as steps:
                    async for held in steps:
                        yield Reading([held], pointed)
            else:
                found = await catalog.read(
                    partial(packaged.files_of, repository=repository.key, packages=names)
                )
                group = served.releases.group
                yield Reading(
                    [Held(name, newest_first(group(files))) for name, files in found.items()],
                    pointed,
                )


async def _groups(
    catalog: Catalog, key: str, only: Sequence[str]
) -> AsyncGenerator[list[PackageRow]]:
    """Packages that fit memory together, or one that does not."""
    if only:
        rows = [await catalog.package(key, name) for name in only]
        for group in grouped([row for row in rows if row is not None]):
            yield group
        return
    after = ""
    while page := await catalog.package_rows(key, after=after, limit=PAGE):
        after = page[-1].package
        for group in grouped(page):
            yield group


def grouped(rows: Sequence[PackageRow]) -> Iterator[list[PackageRow]]:
    """Cut where the files of a group would be more than FILES_MAX.  Pure."""
    group: list[PackageRow] = []
    files = 0
    for row in rows:
        if group and files + row.files > FILES_MAX:
            yield group
            group, files = [], 0
        group.append(row)
        files += row.files
    if group:
        yield group


async def _large(catalog: Catalog, key: str, served: Format, package: str) -> AsyncGenerator[Held]:
    """The versions of one package, put in order on the disk."""
    in_thread = trio.to_thread.run_sync
    ordered = await in_thread(Ordered)
    try:
        after, last = None, False
        while not last:
            files, after = await catalog.read(
                partial(packaged.step, repository=key, package=package, after=after)
            )
            last = after is None
            rows = [(served.releases.place(e)[1], e.published, e.path) for e in files]
            await in_thread(ordered.add, rows)
        await in_thread(ordered.sort)
        steps = ordered.steps()
        while (step := await in_thread(next, steps, None)) is not None:
            paths = [path for each in step.values() for path in each]
            there = await catalog.read(partial(packaged.named, repository=key, paths=paths))
            left = [[there[path] for path in each if path in there] for each in step.values()]
            editions = [served.releases.group(each)[0] for each in left if each]
            yield Held(package, editions, large=True)
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(ordered.close)
