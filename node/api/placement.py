"""Placement: rules, pins, what each member carries, and how far everybody is from the target."""

from __future__ import annotations

import re
import time
import uuid
from typing import Annotated

import msgspec

from mesh.placement import read_target
from node.api.contract import Access, Call, Short, Table, cut
from node.directory import CarriageEntry, PinEntry, PlacementEntry, RepositoryEntry
from node.placement.report import Distance
from store.digest import Digest
from store.errors import NameInvalidError, NotFoundError, RejectedError

table = Table("placement")
RESERVED = frozenset({"default", "pin", "local"})  # what the report calls what is no rule
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
Patterns = Annotated[tuple[Short, ...], msgspec.Meta(max_length=100)]
Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class NewRule(msgspec.Struct):
    id: Short
    target: Short
    order: Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)] = 0
    repositories: Patterns = ()
    labels: Patterns = ()
    formats: Patterns = ()
    packages: Patterns = ()
    size_min: Size = 0
    size_max: Size = 0
    older_than: Seconds = 0.0
    younger_than: Seconds = 0.0
    reads_min: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


class RuleView(NewRule, kw_only=True):
    created_at: float
    created_by: str


class RuleList(msgspec.Struct):
    items: list[RuleView]


class NewPin(msgspec.Struct):
    repository: Short
    path: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    digest: Short = ""
    node: Short = ""
    site: Short = ""


class PinView(NewPin, kw_only=True):
    id: str
    created_at: float
    created_by: str


class PinList(msgspec.Struct):
    items: list[PinView]


class Carriage(msgspec.Struct):
    repositories: Patterns = ()


class NodeDistance(msgspec.Struct):
    node: str
    name: str
    site: str
    present: bool
    carries: tuple[str, ...]
    distance: Distance | None


class PlacementView(msgspec.Struct):
    nodes: list[NodeDistance]


class FilePlacement(msgspec.Struct):
    path: str
    digest: str
    size_bytes: int
    rule: str
    nodes: list[str]
    holders: list[str]


class FilePlacements(msgspec.Struct):
    items: list[FilePlacement]
    next: str | None


@table.route("GET", "/mesh/placement", Access.MANAGE, answer=PlacementView)
async def show_distance(call: Call) -> PlacementView:
    """Show how far each member is from holding what rules and pins place on it."""
    core, found = call.core, []
    heard = await core.placer.reports()
    for node, member in sorted(core.ledger.authority.members().items()):
        entry = core.directory.get(CarriageEntry, node)
        found.append(
            NodeDistance(
                node,
                member.name,
                member.site,
                node not in core.placer.absent,
                entry.repositories if entry else (),
                heard.get(node),
            )
        )
    return PlacementView(found)


@table.route(
    "GET",
    "/repositories/{key}/placement",
    Access.READ,
    answer=FilePlacements,
    parameters=("prefix", "after", "limit"),
)
async def show_files(call: Call) -> FilePlacements:
    """Show where a repository's files belong, by which rule, and who is known to hold them."""
    limit = max(1, call.number("limit", 100))
    found = await call.core.catalog.files(
        call.repository.key,
        prefix=call.query.get("prefix", ""),
        after=call.query.get("after", ""),
        limit=limit + 1,
    )
    page, more = cut(found, limit, lambda each: each.path)
    items: list[FilePlacement] = []
    for each in page:
        placed, holders = await call.core.placer.locate(each.digest)
        items.append(
            FilePlacement(
                each.path,
                str(each.digest),
                each.size,
                placed.rule,
                sorted(placed.holders),
                sorted(holders),
            )
        )
    return FilePlacements(items, more)


@table.route("GET", "/mesh/placement/rules", Access.MANAGE, answer=RuleList)
async def list_rules(call: Call) -> RuleList:
    """List the placement rules in the order in which they are asked."""
    entries = sorted(call.core.directory.all(PlacementEntry), key=lambda e: (e.order, e.id))
    return RuleList([_rule(entry) for entry in entries])


def _rule(entry: PlacementEntry) -> RuleView:
    return RuleView(**msgspec.structs.asdict(entry))


@table.route("PUT", "/mesh/placement/rules", Access.MANAGE, body=NewRule, answer=RuleView)
async def put_rule(call: Call) -> RuleView:
    """Make a placement rule, or replace the one with this id."""
    body: NewRule = call.body
    if not ID.match(body.id) or body.id in RESERVED:
        raise NameInvalidError("an id is lower-case letters, digits, '.', '_' and '-'")
    read_target(body.target)
    if body.size_max and body.size_max < body.size_min:
        raise RejectedError("size_max is less than size_min")
    entry = PlacementEntry(
        **msgspec.structs.asdict(body), created_at=time.time(), created_by=call.caller.name
    )
    await call.append(call.core.directory.change(entry.id, entry))
    await call.note("placement.rule", entry.id)
    return _rule(entry)


@table.route("DELETE", "/mesh/placement/rules/{id}", Access.MANAGE, status=204)
async def delete_rule(call: Call) -> None:
    """Delete a placement rule."""
    if call.core.directory.get(PlacementEntry, call.params["id"]) is None:
        raise NotFoundError(f"no placement rule {call.params['id']!r}")
    await call.append(call.core.directory.remove(PlacementEntry, call.params["id"]))
    await call.note("placement.rule.delete", call.params["id"])


@table.route("PUT", "/mesh/carriage/{node}", Access.MANAGE, body=Carriage, answer=Carriage)
async def put_carriage(call: Call) -> Carriage:
    """Say which repositories a member carries: patterns, or none for all."""
    node, body = _member(call, call.params["node"]), call.body
    if body.repositories:
        entry = CarriageEntry(
            node=node,
            repositories=body.repositories,
            created_at=time.time(),
            created_by=call.caller.name,
        )
        await call.append(call.core.directory.change(node, entry))
    elif call.core.directory.get(CarriageEntry, node) is not None:
        await call.append(call.core.directory.remove(CarriageEntry, node))
    await call.note("placement.carriage", node)
    return Carriage(tuple(body.repositories))


def _member(call: Call, text: str) -> str:
    """Find a member by its id, the beginning of it, or its name.  Raises NotFoundError."""
    members = call.core.ledger.authority.members()
    if text in ("", "self"):
        return call.core.ledger.node
    found = [n for n, m in members.items() if text in (n, m.name)]
    found = found or [n for n in members if len(text) >= 4 and n.startswith(text)]
    if len(found) != 1:
        raise NotFoundError(f"no member, or more than one, is called {text[:80]!r}")
    return found[0]


@table.route("GET", "/pins", Access.MANAGE, answer=PinList)
async def list_pins(call: Call) -> PinList:
    """List what is pinned."""
    return PinList([_pin(each) for each in call.core.directory.all(PinEntry)])


def _pin(entry: PinEntry) -> PinView:
    return PinView(**msgspec.structs.asdict(entry))


@table.route("POST", "/pins", Access.MANAGE, body=NewPin, answer=PinView, status=201)
async def add_pin(call: Call) -> PinView:
    """Pin a repository, a path or a digest to a node (by default this one) or a site."""
    body: NewPin = call.body
    if call.core.directory.get(RepositoryEntry, body.repository) is None:
        raise NotFoundError(f"no repository {body.repository!r}")
    if body.node and body.site:
        raise RejectedError("a pin names a node or a site, not both")
    digest = str(Digest.parse(body.digest)) if body.digest else ""
    entry = PinEntry(
        id=str(uuid.uuid4()),
        repository=body.repository,
        path=body.path,
        digest=digest,
        node="" if body.site else _member(call, body.node),
        site=body.site,
        created_at=time.time(),
        created_by=call.caller.name,
    )
    if body.site and body.site not in _sites(call):
        raise NotFoundError(f"no member stands at site {body.site!r}")
    await call.append(call.core.directory.change(entry.id, entry))
    await call.note("pin.add", f"{entry.repository}/{entry.path or entry.digest}")
    return _pin(entry)


def _sites(call: Call) -> set[str]:
    return {each.site for each in call.core.ledger.authority.members().values()}


@table.route("DELETE", "/pins/{id}", Access.MANAGE, status=204)
async def remove_pin(call: Call) -> None:
    """Remove a pin."""
    if call.core.directory.get(PinEntry, call.params["id"]) is None:
        raise NotFoundError(f"no pin {call.params['id']!r}")
    await call.append(call.core.directory.remove(PinEntry, call.params["id"]))
    await call.note("pin.remove", call.params["id"])
