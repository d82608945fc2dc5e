"""The placement policy in force, as the shared settings and the root document have it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import structlog

from mesh.placement import Candidate, Pin, Policy, Rule, Target, Traits, read_target
from node.config import Config
from node.directory import (
    CarriageEntry,
    Directory,
    PinEntry,
    PlacementEntry,
    RepositoryEntry,
)
from store.errors import RejectedError
from store.root import Member

KINDS = frozenset({"repository", "placement", "pin", "carriage"})  # settings that matter here
EVERYWHERE = "everywhere"
COURIER = "courier"
log = structlog.get_logger(__name__)


def build_policy(
    directory: Directory,
    members: Mapping[str, Member],
    *,
    node: str,
    config: Config,
    absent: Iterable[str] = (),
) -> Policy:
    """Read the policy.  A rule that this version cannot read says nothing, and stops nobody."""
    away = frozenset(absent)
    return Policy(
        rules=tuple(rules_of(directory)),
        traits={entry.key: traits_of(entry) for entry in directory.all(RepositoryEntry)},
        pins=tuple(
            Pin(each.id, each.repository, each.path, each.digest, each.node, each.site)
            for each in directory.all(PinEntry)
        ),
        members=tuple(
            Candidate(name, member.site, carried(directory, name))
            for name, member in sorted(members.items())
            if name not in away and set(member.roles) != {COURIER}
        ),
        greedy=node if config.mesh.replicate == EVERYWHERE else "",
    )


def rules_of(directory: Directory) -> list[Rule]:
    """Return the rules in the order in which they are asked."""
    found: list[Rule] = []
    for entry in directory.all(PlacementEntry):
        target = target_of(entry.target, f"rule {entry.id}")
        if target is not None:
            found.append(rule_of(entry, target))
    return sorted(found, key=lambda rule: (rule.order, rule.id))


def rule_of(entry: PlacementEntry, target: Target) -> Rule:
    """Return the rule that an entry states."""
    return Rule(
        id=entry.id,
        target=target,
        order=entry.order,
        repositories=entry.repositories,
        labels=entry.labels,
        formats=entry.formats,
        packages=entry.packages,
        size_min=entry.size_min,
        size_max=entry.size_max,
        older_than=entry.older_than,
        younger_than=entry.younger_than,
        reads_min=entry.reads_min,
    )


def traits_of(entry: RepositoryEntry) -> Traits:
    """Return what rules see of a repository."""
    labels = {*entry.labels, *(f"{key}={value}" for key, value in entry.labels.items())}
    target = target_of(entry.placement, f"repository {entry.key}") if entry.placement else None
    return Traits(entry.format, frozenset(labels), target)


def target_of(text: str, where: str) -> Target | None:
    """Read a target that some node wrote; None, and a word in the log, if it is none."""
    try:
        return read_target(text)
    except RejectedError as error:
        log.warning("unreadable placement", where=where[:80], error=str(error))
        return None


def carried(directory: Directory, node: str) -> tuple[str, ...]:
    """Return which repositories a member carries: patterns, none for all."""
    entry = directory.get(CarriageEntry, node)
    return entry.repositories if entry is not None else ()


def fingerprint(policy: Policy) -> str:
    """Return a digest of everything that placements depend on."""
    traits = [
        (key, each.format, sorted(each.labels), str(each.target))
        for key, each in sorted((policy.traits or {}).items())
    ]
    parts = (policy.rules, traits, policy.pins, policy.members, policy.greedy)
    return hashlib.sha256(repr(parts).encode()).hexdigest()
