"""Virtual repositories: members, their order, what each is asked for, where publishes go."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Protocol

import msgspec

from node.api.contract import Access, Call, Short, Table
from node.directory import RepositoryEntry
from node.repositories.virtual.members import judge
from node.repositories.virtual.settings import (
    MEMBERS_MAX,
    PATTERNS_MAX,
    Composition,
    Member,
    judge_patterns,
)
from store.errors import ConflictError, NotFoundError, RejectedError

table = Table("virtual repositories")
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "atoll:member")
Patterns = Annotated[list[Short], msgspec.Meta(max_length=PATTERNS_MAX)]


class NewMember(msgspec.Struct):
    """A member by its key; lower priorities come first, equal ones in the order given."""

    repo_key: Short
    priority: int = 0
    allow: Patterns = []
    deny: Patterns = []


NewMembers = Annotated[list[NewMember], msgspec.Meta(max_length=MEMBERS_MAX)]


class AddedMember(msgspec.Struct):
    """A member to add, at a place among the others, counted from 0; by default at the end."""

    member_key: Short
    priority: int | None = None
    allow: Patterns = []
    deny: Patterns = []


class MemberPriority(msgspec.Struct):
    member_key: Short
    priority: int


class MemberOrder(msgspec.Struct):
    """All members, with their new places."""

    members: Annotated[list[MemberPriority], msgspec.Meta(max_length=MEMBERS_MAX)]


class MemberRules(msgspec.Struct):
    """The names that a member is asked for: shell patterns."""

    allow: Patterns = []
    deny: Patterns = []


class MemberView(msgspec.Struct):
    id: str
    member_repo_key: str
    member_repo_name: str
    member_repo_type: str
    priority: int
    allow: list[str]
    deny: list[str]


class MemberList(msgspec.Struct):
    items: list[MemberView]


class CompositionChange(msgspec.Struct):
    """Fields left out stay as they are; an empty ``deploy_repo`` takes no publishes.

    The guard of ``guard_for`` readers is open to callers who may not read the member that owns a
    name: they are given whatever has that name outside.
    """

    deploy_repo: Short | None = None
    guard: bool | None = None
    guard_for: Literal["everybody", "readers"] | None = None
    reserved: Patterns | None = None
    unguarded: Patterns | None = None


class CompositionView(msgspec.Struct):
    deploy_repo: str
    guard: bool
    guard_for: str
    reserved: list[str]
    unguarded: list[str]


class Wanted(Protocol):
    """What a request to create a repository says of its members."""

    repo_type: str
    member_repos: list[NewMember]
    deploy_repo: str


def first(body: Wanted) -> Composition | None:
    """The composition of a new repository; None for one that is not virtual."""
    if body.repo_type != "virtual":
        if body.member_repos or body.deploy_repo:
            raise RejectedError("member_repos and deploy_repo are of virtual repositories only")
        return None
    ordered = sorted(body.member_repos, key=lambda each: each.priority)
    members = tuple(_member(each.repo_key, each.allow, each.deny) for each in ordered)
    return Composition(members=members, deploy=body.deploy_repo)


def _member(key: str, allow: Iterable[str], deny: Iterable[str]) -> Member:
    return Member(key=key, allow=judge_patterns("allow", allow), deny=judge_patterns("deny", deny))


def judge_entry(call: Call, entry: RepositoryEntry) -> None:
    """Refuse members that cannot work.  Raises RejectedError, ConflictError."""
    served = call.core.format_of(entry.format)
    if entry.virtual is None or served is None:
        return
    if served.virtual is None:
        raise RejectedError(f"{served.name} repositories cannot be virtual")
    judge(entry, call.core.entry, served)


def _composition(call: Call) -> Composition:
    if call.repository.repo_type != "virtual":
        raise NotFoundError(f"{call.repository.key} is not a virtual repository")
    return call.repository.virtual or Composition()


def _managed(call: Call) -> Composition:
    """The same, for the node's administrators alone: members may belong to others."""
    call.core.gate.require_management(call.caller)
    return _composition(call)


async def _store(call: Call, composition: Composition, action: str, about: str = "") -> None:
    """Write a changed composition, if it can work."""
    entry = msgspec.structs.replace(call.repository, virtual=composition)
    judge_entry(call, entry)
    await call.append(call.core.directory.change(entry.key, entry))
    await call.note(action, f"{entry.key} {about}".strip())


def _views(call: Call, members: Sequence[Member]) -> list[MemberView]:
    """Members as the caller may know of them; places are counted without the others."""
    found: list[MemberView] = []
    for each in members:
        entry = call.core.entry(each.key)
        if entry is not None and call.core.gate.may(call.caller, "read", entry):
            found.append(
                MemberView(
                    str(uuid.uuid5(NAMESPACE, f"{call.repository.key} {each.key}")),
                    each.key,
                    entry.name or each.key,
                    entry.repo_type,
                    len(found),
                    list(each.allow),
                    list(each.deny),
                )
            )
    return found


@table.route("GET", "/repositories/{key}/members", Access.READ, answer=MemberList)
async def list_members(call: Call) -> MemberList:
    """List the members that the caller may read, in order."""
    return MemberList(_views(call, _composition(call).members))


@table.route(
    "POST", "/repositories/{key}/members", Access.ADMIN, body=AddedMember, answer=MemberList
)
async def add_member(call: Call) -> MemberList:
    """Add a member."""
    body: AddedMember = call.body
    composition = _managed(call)
    members = list(composition.members)
    if any(each.key == body.member_key for each in members):
        raise ConflictError(f"{body.member_key} is a member already")
    place = len(members) if body.priority is None else max(0, body.priority)
    members.insert(place, _member(body.member_key, body.allow, body.deny))
    changed = msgspec.structs.replace(composition, members=tuple(members))
    await _store(call, changed, "repository.member.add", body.member_key)
    return MemberList(_views(call, changed.members))


@table.route(
    "PUT", "/repositories/{key}/members", Access.ADMIN, body=MemberOrder, answer=MemberList
)
async def order_members(call: Call) -> MemberList:
    """Put the members in another order; all of them are named."""
    body: MemberOrder = call.body
    composition = _managed(call)
    held = {each.key: each for each in composition.members}
    ordered = sorted(body.members, key=lambda each: each.priority)
    if sorted(each.member_key for each in ordered) != sorted(held):
        raise RejectedError("the members to order are not the members that there are")
    members = tuple(held[each.member_key] for each in ordered)
    changed = msgspec.structs.replace(composition, members=members)
    await _store(call, changed, "repository.member.order")
    return MemberList(_views(call, members))


@table.route(
    "PUT",
    "/repositories/{key}/members/{member}",
    Access.ADMIN,
    body=MemberRules,
    answer=MemberList,
)
async def route_member(call: Call) -> MemberList:
    """Say which names a member is asked for."""
    body: MemberRules = call.body
    composition, key = _managed(call), call.params["member"]
    if all(each.key != key for each in composition.members):
        raise NotFoundError(f"{key} is not a member")
    changed = msgspec.structs.replace(
        composition,
        members=tuple(
            _member(key, body.allow, body.deny) if each.key == key else each
            for each in composition.members
        ),
    )
    await _store(call, changed, "repository.member.route", key)
    return MemberList(_views(call, changed.members))


@table.route("DELETE", "/repositories/{key}/members/{member}", Access.ADMIN, status=204)
async def remove_member(call: Call) -> None:
    """Remove a member; the last one stays."""
    composition, key = _managed(call), call.params["member"]
    members = tuple(each for each in composition.members if each.key != key)
    if len(members) == len(composition.members):
        raise NotFoundError(f"{key} is not a member")
    deploy = "" if composition.deploy == key else composition.deploy
    changed = msgspec.structs.replace(composition, members=members, deploy=deploy)
    await _store(call, changed, "repository.member.remove", key)


def _view(call: Call, composition: Composition) -> CompositionView:
    target = call.core.entry(composition.deploy)
    seen = target is not None and call.core.gate.may(call.caller, "read", target)
    return CompositionView(
        composition.deploy if seen else "",
        composition.guard,
        composition.guard_for,
        list(composition.reserved),
        list(composition.unguarded),
    )


@table.route("GET", "/repositories/{key}/virtual", Access.ADMIN, answer=CompositionView)
async def get_composition(call: Call) -> CompositionView:
    """Show where publishes go, and which names are not looked up outside."""
    return _view(call, _composition(call))


@table.route(
    "PUT",
    "/repositories/{key}/virtual",
    Access.ADMIN,
    body=CompositionChange,
    answer=CompositionView,
)
async def change_composition(call: Call) -> CompositionView:
    """Change where publishes go, and which names are not looked up outside."""
    body: CompositionChange = call.body
    held = _managed(call)
    reserved = held.reserved if body.reserved is None else body.reserved
    unguarded = held.unguarded if body.unguarded is None else body.unguarded
    changed = msgspec.structs.replace(
        held,
        deploy=held.deploy if body.deploy_repo is None else body.deploy_repo,
        guard=held.guard if body.guard is None else body.guard,
        guard_for=body.guard_for or held.guard_for,
        reserved=judge_patterns("reserved", reserved),
        unguarded=judge_patterns("unguarded", unguarded),
    )
    await _store(call, changed, "repository.virtual.change")
    return _view(call, changed)
