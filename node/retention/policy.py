"""What retention policies say of one package's versions.  Pure: editions in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from formats.releases import Edition

DAY = 86400.0
HEARD = DAY  # seconds that other nodes have to tell of downloads; they do so every hour


class Policy(msgspec.Struct, kw_only=True, frozen=True):
    """Which versions, and what of them.  Patterns are globs; an empty list matches all.

    A version is named ``package@version``, also by each of its tags.  All criteria that are set
    must hold.  With ``keep`` the policy removes nothing, and saves what it speaks for from all
    others.
    """

    id: str
    repositories: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prereleases: bool = False  # only pre-releases and snapshots
    keep: bool = False
    max_age: float = 0.0  # seconds since the newest file was published
    keep_last: int = 0  # of each package, the newest among those that the policy speaks of
    unused_for: float = 0.0  # seconds since anybody read a file of it
    downloads_below: int = (
        0  # on all nodes together; only with one of the two times of a day or more
    )
    placed: bool = False  # also what a placement rule keeps somewhere

    @property
    def guarded(self) -> bool:
        """Whether it waits before it judges by downloads: other nodes' are heard of later."""
        waits = max(self.max_age, self.unused_for) >= HEARD
        return not self.downloads_below or self.keep or waits

    def speaks_of(self, package: str, edition: Edition) -> bool:
        """Whether the patterns match."""
        names = [f"{package}@{name}" for name in (edition.version, *edition.names)]
        if self.prereleases and not edition.prerelease:
            return False
        if any(fnmatchcase(name, pattern) for name in names for pattern in self.exclude):
            return False
        return not self.include or any(
            fnmatchcase(name, pattern) for name in names for pattern in self.include
        )


class Used(NamedTuple):
    """How a version was used anywhere, as far as is known.  ``last`` is seconds since 1970."""

    last: float = 0.0
    downloads: int = 0


class Verdict(NamedTuple):
    """What becomes of a version.  ``kept`` says what saves it; else ``why`` it goes."""

    edition: Edition
    policy: str
    why: str
    kept: str = ""


class Facts(NamedTuple):
    """What criteria look at; times in seconds."""

    age: float
    idle: float
    downloads: int


class Judge:
    """Judges the versions of one package, which must come newest first: it only counts them.

    ``now`` and the times of last use are seconds since 1970.
    """

    def __init__(self, policies: Sequence[Policy], package: str, now: float) -> None:
        self._policies = sorted(policies, key=lambda each: each.id)
        self.package, self._now = package, now
        self._ranks = [0] * len(policies)  # of the next version that each policy speaks of

    def judge(self, edition: Edition, used: Used) -> Verdict | None:
        """The verdict of the first policy that would remove a version; None if none would."""
        going: Verdict | None = None
        saved = ""
        facts = Facts(
            self._now - edition.published,
            self._now - max(edition.published, used.last),
            used.downloads,
        )
        for number, policy in enumerate(self._policies):
            if not policy.speaks_of(self.package, edition):
                continue
            rank = self._ranks[number]
            self._ranks[number] += 1
            if policy.keep:
                if not saved and _saves(policy, rank, facts):
                    saved = f"policy {policy.id}"
            elif going is None:
                why = _reason(policy, rank, facts)
                going = Verdict(edition, policy.id, why) if why else None
        return going and going._replace(kept=saved)


def newest_first(editions: Iterable[Edition]) -> list[Edition]:
    """Put the versions of a package into the order in which they are judged."""
    return sorted(editions, key=lambda each: (each.published, each.version), reverse=True)


def judge(
    policies: Sequence[Policy],
    package: str,
    editions: Iterable[Edition],
    used: Mapping[str, Used],
    now: float,
) -> list[Verdict]:
    """Every version that some policy would remove, with the first that does, oldest first."""
    judging = Judge(policies, package, now)
    found = [
        verdict
        for each in newest_first(editions)
        if (verdict := judging.judge(each, used.get(each.version, Used()))) is not None
    ]
    return found[::-1]


def _reason(policy: Policy, rank: int, facts: Facts) -> str:
    """Why the policy removes a version; "" if it does not."""
    reasons = list[str]()
    for bound, value, text in (
        (policy.max_age, facts.age, f"published {facts.age / DAY:.1f} days ago"),
        (policy.unused_for, facts.idle, f"not read for {facts.idle / DAY:.1f} days"),
    ):
        if bound and value < bound:
            return ""
        reasons += [text] if bound else []
    if policy.downloads_below:
        if facts.downloads >= policy.downloads_below or not policy.guarded:
            return ""
        reasons.append(f"{facts.downloads} downloads")
    if policy.keep_last:
        if rank < policy.keep_last:
            return ""
        reasons.append(f"{rank} newer versions")
    return ", ".join(reasons)


def _saves(policy: Policy, rank: int, facts: Facts) -> bool:
    """Whether a keeping policy saves a version: any of its criteria is enough, none saves all."""
    if not (policy.max_age or policy.keep_last or policy.unused_for or policy.downloads_below):
        return True
    return (
        facts.age < policy.max_age
        or rank < policy.keep_last
        or facts.idle < policy.unused_for
        or 0 < policy.downloads_below <= facts.downloads
    )
