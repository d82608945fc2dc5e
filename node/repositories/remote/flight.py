"""One fetch of one upstream path, however many wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from formats.remote import Aim, Origin, Promise
from node.repositories.remote.spool import Spool, again
from store.errors import RegistryError, UpstreamError
from store.rows import Artifact


@dataclass(slots=True)
class Flight:
    """A fetch under way.  ``held`` is what is kept already, to be replaced if upstream has newer.

    ``opened`` is set when there is something to send, ``done`` when nothing more will happen.
    """

    aim: Aim
    promise: Promise
    held: Artifact | None = None
    held_origin: Origin = field(default_factory=Origin)
    opened: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)
    origin: Origin = field(default_factory=Origin)
    spool: Spool | None = None
    artifact: Artifact | None = None  # once it is kept
    unchanged: bool = False  # upstream says that what is held still holds
    error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """End in an error."""
        self.error = error
        if self.spool is not None:
            self.spool.fail(error)

    def end(self) -> None:
        """Wake whoever waits."""
        self.opened.set()
        self.done.set()

    def check(self) -> None:
        """Raise what the fetch failed with, anew for each who asks."""
        if isinstance(self.error, RegistryError):
            raise again(self.error)
        if self.error is not None:
            raise UpstreamError(f"{self.aim.path[:200]} could not be fetched") from self.error


def unlike(kept: Artifact, promise: Promise) -> bool:
    """Whether kept bytes contradict what is promised of a path."""
    sums = {**kept.checksums, kept.digest.algorithm: kept.digest.hex}
    return any(sums.get(name, told) != told for name, told in promise.digests.items())


def checksums_for(
    own: Sequence[str], aim: Aim, promise: Promise, claims: Sequence[str]
) -> Sequence[str]:
    """Every algorithm that somebody told a digest of, beside the format's own."""
    sidecars = [algorithm for algorithm, _ in aim.sidecars]
    wanted = dict.fromkeys([*own, *promise.digests, *claims, *sidecars])
    return [each for each in wanted if each != "sha256"]
