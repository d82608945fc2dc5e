"""Revisions: cheap answers to "has this changed since?", held in memory.

A revision only ever grows, whatever order records arrive in, and starts above every value of an
earlier run as long as the clock does not go back; it means nothing on another node.  ``modified``
is ledger time, the same on every node that holds the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from store import hlc as clock

PACKAGES_MAX = 10_000  # packages with a revision of their own; beyond, all are taken for changed


class Revisions:
    """What changed when, per repository and package.  Not thread-safe: one event loop."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._modified: dict[str, int] = {}
        self._revisions: dict[str, int] = {}
        self._packages: dict[tuple[str, str], int] = {}
        self._names: dict[str, int] = {}
        self._floor = self._last = clock.stamp(now())

    def load(self, newest: Mapping[str, int]) -> None:
        """Take each repository's newest ledger time, as the database has it; changes count."""
        for repository, hlc in newest.items():
            if hlc > self._modified.get(repository, 0):
                self.touched([(repository, "")], hlc)

    def touched(self, changes: Iterable[tuple[str, str]], hlc: int, *, named: bool = False) -> None:
        """Note that (repository, package) pairs changed, at ledger time ``hlc`` at the latest.

        An empty package stands for all packages of the repository.  ``named``: packages came or
        went there.
        """
        self._last = clock.tick(self._last, self._now())
        for repository, package in changes:
            self._modified[repository] = max(hlc, self._modified.get(repository, 0))
            self._revisions[repository] = self._last
            if named or not package:
                self._names[repository] = self._last
            if package:
                self._packages[repository, package] = self._last
            else:
                self._forget(repository)
        if len(self._packages) > PACKAGES_MAX:
            self._packages.clear()
            self._floor = self._last

    def revision(self, repository: str, package: str | None = None) -> int:
        """A number that grows with every change of the repository, or of one of its packages."""
        if package is None:
            return self._revisions.get(repository, self._floor)
        own = self._packages.get((repository, package), 0)
        return max(own, self._packages.get((repository, ""), 0), self._floor)

    def names(self, repository: str) -> int:
        """A number that grows with every change of which packages a repository has."""
        return self._names.get(repository, 0)

    def modified(self, repository: str) -> float:
        """Ledger time of the newest change, seconds since 1970; 0.0 if there never was one."""
        return clock.seconds(self._modified.get(repository, 0))

    def _forget(self, repository: str) -> None:
        self._packages[repository, ""] = self._last
