"""Who belongs to the mesh and who owns it, as root documents and statements say now."""

from __future__ import annotations

from typing import Any

import msgspec

from node.api.contract import Access, Call, Table
from store import root
from store.council import Motion, owner_keys
from store.root import Delegation, RootDocument

table = Table("mesh")


class ProposalView(msgspec.Struct):
    """A root document that is in force (``missing`` is 0) or waits for signatures."""

    id: str
    version: int
    missing: int
    signed: list[str]  # owners: node ids where they are members, keys elsewhere
    others: list[str]
    can_sign: bool
    created: float
    changes: list[str]


class RootView(msgspec.Struct):
    version: int
    id: str
    created: float
    in_force: bool
    signed: list[str]


class Governance(msgspec.Struct):
    """All that root documents and statements say now."""

    mesh: str
    version: int
    contested: bool
    threshold: int
    owners: list[str]
    members: list[dict[str, Any]]
    delegations: list[dict[str, Any]]
    reserved: list[dict[str, Any]]
    evicted: list[dict[str, Any]]
    proposals: list[ProposalView]
    roots: list[RootView]


class ForkView(msgspec.Struct):
    author: str
    name: str
    incarnation: int
    seq: int
    advice: str


class ForkList(msgspec.Struct):
    items: list[ForkView]


@table.route("GET", "/mesh/roots", Access.MANAGE, answer=Governance)
async def governance(call: Call) -> Governance:
    """Show members, roles, owners, delegations, evictions, and what waits for signatures."""
    ledger = call.core.ledger
    authority, newest = ledger.authority, ledger.authority.newest
    admitted, names = authority.admitted(), owner_keys(authority)
    members = [
        {
            "node": node,
            "name": member.name,
            "site": member.site,
            "roles": list(member.roles),
            "repositories": list(member.scopes),
            "key": member.key.hex(),
            "disputed": not member.key,
            "admitted_by": admitted.get(node, ""),
            "owner": node in names.values(),
            "joined": member.joined / 1000,
        }
        for node, member in sorted(authority.members().items())
    ]
    return Governance(
        mesh=ledger.mesh,
        version=authority.version,
        contested=authority.contested,
        threshold=newest.threshold,
        owners=[names.get(key) or key.hex() for key in newest.owners],
        members=members,
        delegations=[_delegation(each) for each in newest.delegations],
        reserved=[msgspec.structs.asdict(each) for each in newest.reserved],
        evicted=[
            {"node": each.node, "reason": each.reason, "at": each.at / 1000}
            for each in authority.evicted().values()
        ],
        proposals=[proposal_view(call, motion) for motion in await ledger.council.proposals()],
        roots=[_root(call, data) for data in await ledger.council.documents()],
    )


def _delegation(each: Delegation) -> dict[str, Any]:
    return {
        "node": each.node,
        "roles": list(each.roles),
        "repositories": list(each.scopes),
        "sites": list(each.sites),
        "until": each.until / 1000,
        "limit": each.limit,
    }


def _root(call: Call, signed: root.SignedRoot) -> RootView:
    document, authority = root.read_document(signed.document), call.core.ledger.authority
    names = owner_keys(authority)
    return RootView(
        document.version,
        signed.id.hex(),
        document.created / 1000,
        signed.id in authority.in_force,
        [names.get(key) or key.hex() for key, _ in signed.signatures],
    )


def proposal_view(call: Call, motion: Motion) -> ProposalView:
    names = owner_keys(call.core.ledger.authority)
    before = [
        document
        for id_ in motion.document.previous
        if (document := call.core.ledger.authority.documents.get(id_)) is not None
    ]
    return ProposalView(
        id=motion.id.hex(),
        version=motion.document.version,
        missing=motion.missing,
        signed=sorted(names.get(key) or key.hex() for key in motion.signed),
        others=sorted(names.get(key) or key.hex() for key in motion.others),
        can_sign=motion.ours,
        created=motion.document.created / 1000,
        changes=describe(before, motion.document),
    )


def describe(before: list[RootDocument], after: RootDocument) -> list[str]:
    """Say what a root document changes, for those who are to sign it."""
    said: list[str] = []
    old = {member.node: member for document in before for member in document.members}
    new = {member.node: member for member in after.members}
    for node in sorted(new.keys() - old.keys()):
        member = new[node]
        said.append(
            f"admits {node[:12]} {member.name} at {member.site or 'no site'} as "
            f"{', '.join(member.roles)} for {', '.join(member.scopes)}"
        )
    known = {each.node for document in before for each in document.evicted}
    said += [f"evicts {e.node[:12]}: {e.reason}" for e in after.evicted if e.node not in known]
    for node in sorted(new.keys() & old.keys()):
        one, other = (msgspec.structs.asdict(member[node]) for member in (old, new))
        for field in ("roles", "scopes", "site", "name", "key"):
            if one[field] != other[field]:
                said.append(f"{node[:12]}: {field} {_text(one[field])} -> {_text(other[field])}")
    for document in before:
        if (document.owners, document.threshold) != (after.owners, after.threshold):
            keys = ", ".join(key.hex()[:12] for key in after.owners)
            said.append(f"owners: {keys}; {after.threshold} of {len(after.owners)} sign")
        if document.delegations != after.delegations:
            names = ", ".join(f"{d.node[:12]} ({d.limit})" for d in after.delegations)
            said.append(f"delegates: {names or 'none'}")
        if document.reserved != after.reserved:
            rules = (f"{r.repositories} {r.prefix!r} {r.site}" for r in after.reserved)
            said.append(f"reserved: {'; '.join(rules) or 'nothing'}")
    if len(before) > 1:
        said.append(f"settles {len(before)} rival documents")
    return list(dict.fromkeys(said)) or ["changes nothing but the version"]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()[:12]
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@table.route("GET", "/mesh/forks", Access.MANAGE, answer=ForkList)
async def forks(call: Call) -> ForkList:
    """List the authors whose ledgers fork, by proof, and what to do about them."""
    found = [each for each in await call.core.ledger.authors_status() if each.forked is not None]
    own = call.core.ledger.node
    advice = "unless its disk was restored from a copy: atoll mesh evict"
    return ForkList(
        [
            ForkView(
                each.author,
                each.name,
                each.incarnation,
                each.forked or 0,
                "this node has begun a new ledger: nothing to do"
                if each.author == own
                else f"{advice} {each.author[:12]}",
            )
            for each in found
        ]
    )
