"""Where blobs belong: ordered rules, pins, and the members that these choose.  Pure.

Spec: docs/mesh.md §13.  A placement depends on nothing but the rules, the members and what names
the blob, so every member computes the same one; what is held where never enters it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from store.errors import RejectedError

EVERYWHERE, SITES, REPLICAS, ON_DEMAND = "everywhere", "sites", "replicas", "on-demand"
COPIES_MAX = 1000  # of one blob, by one rule
DEFAULT, PINNED, LOCAL = "default", "pin", "local"  # what decides where no rule does


@dataclass(frozen=True, slots=True)
class Target:
    """Where copies shall be.  ``copies`` is their number in all, or with SITES at each site."""

    kind: str = ON_DEMAND
    sites: tuple[str, ...] = ()
    copies: int = 0

    def __str__(self) -> str:
        if self.kind == REPLICAS:
            return f"{REPLICAS}:{self.copies}"
        if self.kind == SITES:
            many = f"/{self.copies}" if self.copies != 1 else ""
            return f"{SITES}:{','.join(self.sites)}{many}"
        return self.kind


NOWHERE = Target()


def read_target(text: str) -> Target:
    """Read ``everywhere``, ``on-demand``, ``replicas:N``, ``sites:A,B`` or ``sites:A,B/N``.

    Raises RejectedError.
    """
    kind, _, rest = text.strip().partition(":")
    if kind in (EVERYWHERE, ON_DEMAND) and not rest:
        return Target(kind)
    if kind == REPLICAS:
        return Target(kind, copies=_copies(rest, text))
    if kind == SITES:
        named, _, many = rest.partition("/")
        sites = tuple(dict.fromkeys(site.strip() for site in named.split(",") if site.strip()))
        if sites:
            return Target(kind, sites, _copies(many or "1", text))
    raise RejectedError(
        f"{text!r} is no placement: everywhere, on-demand, replicas:N, sites:A,B or sites:A,B/N"
    )


def _copies(number: str, text: str) -> int:
    if not number.isascii() or not number.isdecimal() or not 1 <= int(number[:9]) <= COPIES_MAX:
        raise RejectedError(f"{text!r}: a number of copies is between 1 and {COPIES_MAX}")
    return int(number)


@dataclass(frozen=True, slots=True)
class Use:
    """One file that names a blob.  ``published`` is in seconds since 1970."""

    repository: str
    package: str
    path: str
    size: int
    published: float


@dataclass(frozen=True, slots=True)
class Traits:
    """What rules see of a repository.  ``target`` is its own default, if it has one."""

    format: str = ""
    labels: frozenset[str] = frozenset()  # ``key`` and ``key=value``
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Condition and target; an empty condition holds for everything, all given ones must.

    Patterns are globs.  ``older_than`` and ``younger_than`` are seconds since the publish;
    ``reads_min`` are reads at the deciding node within about a day, so that demand is each node's
    own.  Sizes are bytes, the upper bound included.
    """

    id: str
    target: Target
    order: int = 0
    repositories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    size_min: int = 0
    size_max: int = 0  # 0: no bound
    older_than: float = 0.0
    younger_than: float = 0.0  # 0: no bound
    reads_min: int = 0

    def matches(self, use: Use, traits: Traits, *, now: float, reads: int) -> bool:
        """Tell whether the rule decides about this file."""
        age = now - use.published
        return (
            self.concerns(use, traits)
            and age >= self.older_than
            and not 0 < self.younger_than <= age
            and reads >= self.reads_min
        )

    def concerns(self, use: Use, traits: Traits) -> bool:
        """Tell whether the rule could ever decide about this file, given age and demand."""
        return (
            use.size >= self.size_min
            and not 0 < self.size_max < use.size
            and _any(self.repositories, use.repository)
            and _any(self.packages, use.package)
            and (not self.formats or traits.format in self.formats)
            and (not self.labels or not traits.labels.isdisjoint(self.labels))
        )

    def turns(self, use: Use, now: float) -> float:
        """Return when time next changes what the rule says about this file; infinity for never."""
        bounds = (self.older_than, self.younger_than)
        moments = [use.published + bound for bound in bounds if bound > 0]
        return min((moment for moment in moments if moment > now), default=math.inf)


def _any(patterns: Sequence[str], text: str) -> bool:
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Pin:
    """Content that a node, or one node of a site, keeps whatever the rules say.

    ``path`` is a glob ("" for the whole repository); ``digest`` narrows it to one blob.
    """

    id: str
    repository: str
    path: str = ""
    digest: str = ""
    node: str = ""
    site: str = ""

    def covers(self, use: Use, digest: str) -> bool:
        """Tell whether the pin names this file."""
        return (
            use.repository == self.repository
            and (not self.digest or self.digest == digest)
            and (not self.path or fnmatchcase(use.path, self.path))
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that can hold blobs; ``carries`` are globs of repositories."""

    node: str
    site: str
    carries: tuple[str, ...] = ()  # empty: all

    def takes(self, repository: str) -> bool:
        """Tell whether the member carries a repository."""
        return _any(self.carries, repository)


@dataclass(frozen=True, slots=True)
class Placement:
    """Who should hold a blob.  ``due`` is when time alone may change that, seconds since 1970."""

    holders: frozenset[str]
    rule: str  # id of a rule, or DEFAULT, PINNED, LOCAL; "" when nothing asks for the blob
    due: float = math.inf


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that placements depend on.  Compare policies to see whether any may differ."""

    rules: tuple[Rule, ...] = ()
    traits: Mapping[str, Traits] | None = None
    pins: tuple[Pin, ...] = ()
    members: tuple[Candidate, ...] = ()
    greedy: str = ""  # the one node that wants all that nothing else decides about, or ""

    def place(
        self, blob: bytes, digest: str, uses: Iterable[Use], *, now: float, reads: int = 0
    ) -> Placement:
        """Decide about a blob: the union of what each file that names it asks for."""
        holders: set[str] = set()
        decided, due = "", math.inf
        for use in uses:
            traits = (self.traits or {}).get(use.repository, Traits())
            rule, target, turns = self._decide(use, traits, now=now, reads=reads)
            due = min(due, turns)
            taking = [each for each in self.members if each.takes(use.repository)]
            found = choose(target, blob, taking)
            if rule == LOCAL and any(each.node == self.greedy for each in taking):
                found |= {self.greedy}
            pinned = self._pinned(use, digest, blob)
            if found or pinned:
                decided = decided or (rule if found else PINNED)
            holders |= found | pinned
        return Placement(frozenset(holders), decided, due)

    def _decide(
        self, use: Use, traits: Traits, *, now: float, reads: int
    ) -> tuple[str, Target, float]:
        due = math.inf
        for rule in self.rules:
            due = min(due, rule.turns(use, now)) if rule.concerns(use, traits) else due
            if rule.matches(use, traits, now=now, reads=reads):
                return rule.id, rule.target, due
        if traits.target is not None:
            return DEFAULT, traits.target, due
        return LOCAL, NOWHERE, due

    def _pinned(self, use: Use, digest: str, blob: bytes) -> set[str]:
        found: set[str] = set()
        for pin in self.pins:
            if pin.covers(use, digest):
                if pin.node:
                    found |= {each.node for each in self.members if each.node == pin.node}
                else:
                    there = [each for each in self.members if each.site == pin.site]
                    found |= choose(Target(REPLICAS, copies=1), blob, there)
        return found


def choose(target: Target, blob: bytes, members: Sequence[Candidate]) -> set[str]:
    """Return the members that a target means for a blob."""
    match target.kind:
        case "everywhere":
            return {each.node for each in members}
        case "replicas":
            return set(spread(blob, members)[: target.copies])
        case "sites":
            found: set[str] = set()
            for site in target.sites:
                there = [each for each in members if each.site == site]
                found |= set(spread(blob, there)[: target.copies])
            return found
        case _:
            return set()


def spread(blob: bytes, members: Iterable[Candidate]) -> list[str]:
    """Rank members for a blob, one of each site before any site's second.

    Rendezvous hashing: whoever comes or goes moves only the blobs that it gains or gives up, and
    takes no other member's copies away.
    """
    sites: dict[str, list[tuple[bytes, str]]] = {}
    for each in members:
        sites.setdefault(each.site, []).append((score(each.node, blob), each.node))
    ranked = [
        (turn, rank)
        for there in sites.values()
        for turn, rank in enumerate(sorted(there, reverse=True))
    ]
    ranked.sort(key=lambda each: each[1], reverse=True)
    ranked.sort(key=lambda each: each[0])
    return [node for _, (_, node) in ranked]


def score(node: str, blob: bytes) -> bytes:
    """Return how much a blob belongs to a node: more is greater, and nobody can choose it."""
    return hashlib.blake2b(blob, digest_size=8, key=bytes.fromhex(node)[:32]).digest()
