"""Who stands behind a virtual repository for one caller: members of members, rules, the guard.

Settings replicate and merge, so that what no single node would have accepted can come to be: a
circle, too many members, one of another format.  Nothing here relies on what was refused elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property

import msgspec
import structlog

from formats.contract import Format, Principal
from node.access.gate import Gate
from node.directory import RepositoryEntry
from node.repositories.virtual.settings import (
    MEMBERS_MAX,
    PATTERNS_MAX,
    READERS,
    Composition,
    Member,
)
from store.errors import ConflictError, RejectedError

log = structlog.get_logger(__name__)
LEAVES_MAX = 64  # repositories that one request may come to ask
VISITS_MAX = 256  # members looked at on the way to them
DEPTH_MAX = 8  # virtual repositories within each other

Find = Callable[[str], RepositoryEntry | None]
OUTSIDE = frozenset({"remote", "virtual"})  # types that hold nothing of their own


@dataclass(frozen=True, slots=True)
class Rule:
    """Names a member is asked for: those of some pattern, none of others."""

    allow: tuple[str, ...]
    deny: tuple[str, ...]

    def admits(self, name: str) -> bool:
        """Tell whether the member may be asked for a name."""
        if self.allow and not matches(name, self.allow):
            return False
        return not matches(name, self.deny)


@dataclass(frozen=True, slots=True)
class Owner:
    """A local member, perhaps one that the caller may not read, and the names it has a say in."""

    key: str
    rules: tuple[Rule, ...]
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """What a virtual repository keeps from its remote members."""

    on: bool
    reserved: tuple[str, ...]
    unguarded: tuple[str, ...]
    owners: tuple[Owner, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A repository that is asked, by way of which virtual ones, and the rules along the way.

    One that is ``hidden`` from the caller is not asked: it may own names, and is left out then.
    """

    entry: RepositoryEntry
    through: tuple[str, ...]
    rules: tuple[Rule, ...]
    guards: tuple[Guard, ...] = ()
    hidden: bool = False

    @property
    def remote(self) -> bool:
        """Whether it looks outside."""
        return self.entry.repo_type == "remote"

    def admits(self, name: str) -> bool:
        """Whether rules and reserved names let it be asked; owners are asked separately."""
        if not all(each.admits(name) for each in self.rules):
            return False
        return not any(
            matches(name, each.reserved) and not matches(name, each.unguarded)
            for each in self.guards
        )

    def owners(self, name: str) -> Iterator[str]:
        """Keys of the local repositories that keep a name to themselves if they have it."""
        for guard in self.guards:
            if guard.on and not matches(name, guard.unguarded):
                for owner in guard.owners:
                    if all(each.admits(name) for each in owner.rules):
                        yield owner.key


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name matches one of the patterns."""
    return any(fnmatchcase(name, each) for each in patterns)


@dataclass(slots=True)
class Walk:
    """One look at a virtual repository and what is below it."""

    find: Find
    gate: Gate
    caller: Principal
    served: Format
    visits: int = 0
    cut: bool = False
    through: list[str] = field(default_factory=list[str])

    def leaves(self, entry: RepositoryEntry) -> list[Leaf]:
        """The repositories below a virtual one, in order; what the caller may not read is hidden.

        Of those only local ones are there: they guard their names.
        """
        composition = entry.virtual or Composition()
        found: list[Leaf] = []
        self.through.append(entry.key)
        for member in composition.members[:MEMBERS_MAX]:
            for leaf in self._below(member):
                if len(found) >= LEAVES_MAX:
                    self.cut = True
                    break
                found.append(leaf)
        self.through.pop()
        return self._guarded(composition, found)

    def _below(self, member: Member) -> list[Leaf]:
        self.visits += 1
        if self.visits > VISITS_MAX or len(self.through) > DEPTH_MAX:
            self.cut = True
            return []
        entry = self.find(member.key)
        if entry is None or entry.key in self.through:
            return []
        if entry.format not in self.served.keys:
            return []
        hidden = not self.gate.may(self.caller, "read", entry)
        if hidden and entry.repo_type == "remote":
            return []
        rule = Rule(self._patterns(member.allow), self._patterns(member.deny))
        if entry.repo_type == "virtual":
            return [
                replace(each, rules=(rule, *each.rules), hidden=True)
                if hidden
                else replace(each, rules=(rule, *each.rules))
                for each in self.leaves(entry)
                if not (hidden and each.remote)
            ]
        return [Leaf(entry, tuple(self.through), (rule,), hidden=hidden)]

    def _guarded(self, composition: Composition, leaves: Sequence[Leaf]) -> list[Leaf]:
        """Put a virtual repository's guard before what is remote below it."""
        owners = tuple(
            Owner(each.entry.key, each.rules, each.hidden)
            for each in leaves
            if each.entry.repo_type not in OUTSIDE
            and not (each.hidden and composition.guard_for == READERS)
        )
        reserved, open_to = composition.reserved, composition.unguarded
        guard = Guard(composition.guard, self._patterns(reserved), self._patterns(open_to), owners)
        return [
            replace(each, guards=(guard, *each.guards)) if each.remote else each for each in leaves
        ]

    def _patterns(self, patterns: Sequence[str]) -> tuple[str, ...]:
        virtual = self.served.virtual
        few = patterns[:PATTERNS_MAX]
        return tuple(virtual.normalize(each) if virtual else each for each in few)


@dataclass(frozen=True)
class Crew:
    """The members of a virtual repository that one caller may read."""

    entry: RepositoryEntry
    leaves: tuple[Leaf, ...]

    @cached_property
    def mark(self) -> str:
        """What names this very set of members and rules: documents are kept under it."""
        told = [
            (each.entry.key, each.through, each.rules, each.guards, each.entry.options)
            for each in self.leaves
        ]
        return hashlib.sha256(msgspec.json.encode([self.entry.options, told])).hexdigest()

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The repositories that are asked, each once."""
        return tuple(dict.fromkeys(each.entry.key for each in self.leaves))

    def owners(self, leaf: Leaf) -> dict[str, bool]:
        """Whose names a member is not asked for: keys, and whether the caller may not read them."""
        guards = [each for each in leaf.guards if each.on]
        return {owner.key: owner.hidden for guard in guards for owner in guard.owners}

    @cached_property
    def guarding(self) -> tuple[str, ...]:
        """The repositories whose names are not looked up outside, hidden ones among them."""
        return tuple(dict.fromkeys(key for leaf in self.leaves for key in self.owners(leaf)))

    @property
    def private(self) -> bool:
        """Whether what they answer is not for everybody."""
        return not (self.entry.is_public and all(each.entry.is_public for each in self.leaves))


def gather(
    entry: RepositoryEntry, find: Find, gate: Gate, caller: Principal, served: Format
) -> Crew:
    """Find who answers a caller for a virtual repository.

    A member that the caller may not read is left out, with all below it: nothing of it is shown.
    Only its names stay guarded, unless its owner wants that for readers alone.

    Where there are too many, nothing guarded is looked up outside: an owner of the name may be
    among those that were cut off.
    """
    walk = Walk(find, gate, caller, served)
    leaves = [each for each in walk.leaves(entry) if not each.hidden]
    if walk.cut:
        log.warning("a virtual repository has too many members", repository=entry.key)
        leaves = [each for each in leaves if not any(guard.on for guard in each.guards)]
    return Crew(entry, tuple(leaves))


# --- creation -----------------------------------------------------------------------------------
def judge(entry: RepositoryEntry, find: Find, served: Format) -> None:
    """Refuse a composition that cannot work, as far as this node knows the others.

    Raises RejectedError; ConflictError for a repository that would contain itself.
    """
    composition = entry.virtual or Composition()
    keys = [each.key for each in composition.members]
    if not keys:
        raise RejectedError("a virtual repository needs a member")
    if len(keys) > MEMBERS_MAX:
        raise RejectedError(f"more than {MEMBERS_MAX} members")
    if len(set(keys)) < len(keys):
        raise RejectedError("a member is named twice")
    for key in keys:
        member = entry if key == entry.key else find(key)
        if member is None:
            raise RejectedError(f"no repository {key!r}")
        if member.format not in served.keys:
            raise RejectedError(f"{key} is of format {member.format}, not {served.name}")
    _judge_tree(entry, find)
    if composition.deploy:
        target = find(composition.deploy)
        if composition.deploy not in keys or target is None or target.repo_type in OUTSIDE:
            raise RejectedError("the deploy target is one of the members, and a local one")


def _judge_tree(entry: RepositoryEntry, find: Find) -> None:
    """Look through all that would be below."""
    leaves = visits = 0

    def visit(at: RepositoryEntry, path: tuple[str, ...]) -> None:
        nonlocal leaves, visits
        visits += 1
        leaves += at.repo_type != "virtual"
        if leaves > LEAVES_MAX or visits > VISITS_MAX or len(path) > DEPTH_MAX:
            raise RejectedError(f"more than {LEAVES_MAX} repositories, or nested too deeply")
        for member in (at.virtual or Composition()).members if at.repo_type == "virtual" else ():
            if member.key in {*path, at.key}:
                raise ConflictError(f"{member.key} would contain itself")
            below = find(member.key)
            if below is not None:
                visit(below, (*path, at.key))

    visit(entry, ())
