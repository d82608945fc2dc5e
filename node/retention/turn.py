"""Whose turn it is: one member applies the policies of a repository, so that not all repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from node.directory import RepositoryEntry
from store.root import WRITER, Member


def ours(entries: Iterable[RepositoryEntry], members: Mapping[str, Member], node: str) -> list[str]:
    """The repositories whose policies a node applies: it is the first writer at their home.

    Without a home, or with none there, it is the first of all.  Two that think so by mistake only
    say the same twice.
    """
    writers = {name: each for name, each in members.items() if WRITER in each.roles}
    found: list[str] = []
    for entry in entries:
        home = [n for n, each in writers.items() if entry.home and entry.home in {n, each.site}]
        if min(home or writers, default="") == node:
            found.append(entry.key)
    return found
