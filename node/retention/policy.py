"""What retention policies say of one package's versions.  Pure: editions in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

from formats.releases import Edition

DAY = 86400.0


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
    placed: bool = False  # also what a placement rule keeps somewhere

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


class Verdict(NamedTuple):
    """What becomes of a version.  ``kept`` says what saves it; else ``why`` it goes."""

    edition: Edition
    policy: str
    why: str
    kept: str = ""


def judge(
    policies: Sequence[Policy],
    package: str,
    editions: Sequence[Edition],
    used: Mapping[str, float],
    now: float,
) -> list[Verdict]:
    """Every version that some policy would remove, with the first that does, oldest first.

    ``used`` is when each version was last read, seconds since 1970.
    """
    ordered = sorted(editions, key=lambda each: (each.published, each.version), reverse=True)
    going: dict[str, Verdict] = {}
    saved: dict[str, str] = {}
    for policy in sorted(policies, key=lambda each: each.id):
        concerned = [each for each in ordered if policy.speaks_of(package, each)]
        for rank, edition in enumerate(concerned):
            idle = now - max(edition.published, used.get(edition.version, 0.0))
            if policy.keep:
                if _saves(policy, edition, rank, idle, now):
                    saved.setdefault(edition.version, f"policy {policy.id}")
            elif edition.version not in going:
                why = _reason(policy, edition, rank, idle, now)
                if why:
                    going[edition.version] = Verdict(edition, policy.id, why)
    return [
        found._replace(kept=saved.get(each.version, ""))
        for each in reversed(ordered)
        if (found := going.get(each.version)) is not None
    ]


def _reason(policy: Policy, edition: Edition, rank: int, idle: float, now: float) -> str:
    """Why the policy removes a version; "" if it does not."""
    age, reasons = now - edition.published, list[str]()
    for bound, value, text in (
        (policy.max_age, age, f"published {age / DAY:.1f} days ago"),
        (policy.unused_for, idle, f"not read for {idle / DAY:.1f} days"),
    ):
        if bound and value < bound:
            return ""
        reasons += [text] if bound else []
    if policy.keep_last:
        if rank < policy.keep_last:
            return ""
        reasons.append(f"{rank} newer versions")
    return ", ".join(reasons)


def _saves(policy: Policy, edition: Edition, rank: int, idle: float, now: float) -> bool:
    """Whether a keeping policy saves a version: any of its criteria is enough, none saves all."""
    if not (policy.max_age or policy.keep_last or policy.unused_for):
        return True
    return (
        now - edition.published < policy.max_age
        or rank < policy.keep_last
        or idle < policy.unused_for
    )
