"""How long what is kept is believed, and what else this node knows of upstream paths.

Local and forgettable: after a restart everything that can change is asked for again, with the
validators that stand in the ledger, which costs the upstream a 304.  Pure: ``now`` is an argument.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from formats.remote import Freshness
from node.upstream.settings import Upstream

STATES_MAX = 50_000  # paths whose state is remembered


class Verdict(enum.Enum):
    """What to do with a kept document."""

    FRESH = "fresh"  # send it
    REFRESH = "refresh"  # send it, and ask upstream meanwhile
    STALE = "stale"  # ask upstream first


@dataclass(frozen=True, slots=True)
class State:
    """What this node knows of one path.  ``checked`` is seconds since 1970."""

    checked: float
    missing: bool = False


def classify(path: str, given: Freshness, upstream: Upstream) -> Freshness:
    """The class of a path, after the repository's own patterns."""
    if any(fnmatchcase(path, each) for each in upstream.mutable):
        return Freshness.MUTABLE
    if any(fnmatchcase(path, each) for each in upstream.immutable):
        return Freshness.IMMUTABLE
    return given


def life(kind: Freshness, upstream: Upstream) -> float:
    """Seconds that a path of this class is believed."""
    if kind is Freshness.IMMUTABLE:
        return float("inf")
    return upstream.index_ttl if kind is Freshness.INDEX else upstream.mutable_ttl


def judge(age: float, kind: Freshness, upstream: Upstream) -> Verdict:
    """What to do with something of this age."""
    over = age - life(kind, upstream)
    if upstream.offline or over < 0:
        return Verdict.FRESH
    return Verdict.REFRESH if over < upstream.stale_while_revalidate else Verdict.STALE


def may_be_stale(age: float, kind: Freshness, upstream: Upstream) -> bool:
    """Whether something of this age may still be sent while upstream is away."""
    return not upstream.stale_max or age <= life(kind, upstream) + upstream.stale_max


class States:
    """The states of paths, by (repository, path): the least recently used are forgotten."""

    def __init__(self, states_max: int = STATES_MAX) -> None:
        self._states: OrderedDict[tuple[str, str], State] = OrderedDict()
        self._max = states_max

    def get(self, repository: str, path: str) -> State | None:
        """What is known of a path."""
        found = self._states.get((repository, path))
        if found is not None:
            self._states.move_to_end((repository, path))
        return found

    def checked(self, repository: str, path: str, now: float, *, missing: bool = False) -> None:
        """Note that upstream has just told about a path."""
        self._states[repository, path] = State(now, missing)
        self._states.move_to_end((repository, path))
        while len(self._states) > self._max:
            self._states.popitem(last=False)

    def missing(self, repository: str, path: str, now: float, ttl: float) -> bool:
        """Whether upstream said a moment ago that there is no such thing."""
        found = self._states.get((repository, path))
        return found is not None and found.missing and now - found.checked < ttl

    def expire(self, repository: str, paths: Sequence[str]) -> None:
        """Have some paths asked for again."""
        for path in paths:
            self._states[repository, path] = State(0.0)

    def forget(self, repository: str, pattern: str = "*") -> int:
        """Have whatever matches asked for again; return how many states that were."""
        found = [
            (owner, path)
            for owner, path in self._states
            if owner == repository and fnmatchcase(path, pattern)
        ]
        for key in found:
            self._states[key] = State(0.0)
        return len(found)

    def drop(self, repository: str) -> None:
        """Forget a repository altogether."""
        for key in [each for each in self._states if each[0] == repository]:
            del self._states[key]
