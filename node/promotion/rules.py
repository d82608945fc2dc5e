"""What a promotion still lacks.  Pure: the same evidence gives the same answer on every node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import msgspec


class Rules(msgspec.Struct, kw_only=True, frozen=True):
    """What a repository asks of what is promoted into it."""

    sources: tuple[str, ...] = ()  # keys or patterns; empty: any staging repository
    min_age: float = 0.0  # seconds since the newest file was published
    approvals: int = 0  # distinct users who may write here, other than requester and publishers
    checks: tuple[str, ...] = ()  # names that must have passed
    checkers: tuple[str, ...] = ()  # users or patterns; empty: whoever may write here


class Unmet(msgspec.Struct, frozen=True):
    """A rule that does not hold yet, or never will."""

    rule: str
    message: str
    severity: str = "blocking"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who reported that a check passed, and that it failed."""

    passed: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one promotion.  ``writers`` are those of all named who may write there."""

    source: str
    staging: bool
    requester: str
    publishers: frozenset[str]
    age: float  # seconds, of the youngest file
    conflicted: Sequence[str] = ()
    approvers: frozenset[str] = frozenset()
    writers: Collection[str] = ()
    checks: Mapping[str, Sequence[Verdict]] = field(default_factory=dict[str, Sequence[Verdict]])


def approving(evidence: Evidence) -> frozenset[str]:
    """The users whose approval counts: nobody approves what he published or asked for."""
    involved = evidence.publishers | {evidence.requester}
    return frozenset(u for u in evidence.approvers - involved if u in evidence.writers)


def unmet(rules: Rules, evidence: Evidence) -> list[Unmet]:
    """Every rule that does not hold, in the order in which people look at them."""
    found: list[Unmet] = []
    if not _allowed(rules, evidence):
        found.append(Unmet("sources", f"{evidence.source} is not a source of this repository"))
    found += [
        Unmet("conflicted", f"{path} is conflicted: resolve it first")
        for path in evidence.conflicted
    ]
    if evidence.age < rules.min_age:
        left = rules.min_age - evidence.age
        found.append(Unmet("min_age", f"{left:.0f} more seconds of age are asked for"))
    found += [each for name in rules.checks if (each := _check(rules, name, evidence))]
    counted = approving(evidence)
    # Whoever may not write in the target needs somebody who may, whatever the rules ask for.
    wanted = max(rules.approvals, 0 if evidence.requester in evidence.writers else 1)
    if len(counted) < wanted:
        found.append(Unmet("approvals", f"{len(counted)} of {wanted} approvals"))
    return found


def _allowed(rules: Rules, evidence: Evidence) -> bool:
    if rules.sources:
        return any(fnmatchcase(evidence.source, pattern) for pattern in rules.sources)
    return evidence.staging


def _check(rules: Rules, name: str, evidence: Evidence) -> Unmet | None:
    """Each release needs somebody's word that it passed, and nobody's that it failed."""

    def counts(user: str) -> bool:
        if rules.checkers:
            return any(fnmatchcase(user, pattern) for pattern in rules.checkers)
        return user in evidence.writers

    verdicts = evidence.checks.get(name, ())
    failed = sorted({user for each in verdicts for user in each.failed if counts(user)})
    if failed:
        return Unmet("checks", f"check {name} failed, says {', '.join(failed)}")
    if not verdicts or not all(any(map(counts, each.passed)) for each in verdicts):
        return Unmet("checks", f"check {name} has not passed")
    return None
