"""Changes of the mesh's members and owners: drafted here, in force once enough owners sign."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Annotated

import msgspec

from node.api.contract import Access, Call, Names, Short, Table
from node.api.roots import ProposalView, proposal_view
from store.council import Draft, owner_keys
from store.errors import NotFoundError, RejectedError
from store.root import DOCUMENT_MAX, Delegation, Reserved

table = Table("mesh")
DELEGATION_MAX = 10 * 365 * 86400.0  # seconds that a delegation may last
PREFIX_MIN = 8  # hexadecimal digits by which a node or a proposal may be named


class Eviction(msgspec.Struct):
    node: Short
    reason: Short = ""


class MemberChange(msgspec.Struct):
    """What is left out stays as it is."""

    roles: Names | None = None
    repositories: Names | None = None
    site: Short | None = None
    name: Short | None = None
    key: Short | None = None  # hexadecimal: settles which of two keys is the node's


class Ownership(msgspec.Struct):
    owners: Names  # node ids
    threshold: int = 0  # 0: a majority


class NewDelegation(msgspec.Struct):
    roles: Names
    repositories: Names
    sites: Names
    expires_in: float = 90 * 86400.0
    limit: int = 20


class ReservationItem(msgspec.Struct):
    repositories: Short
    prefix: Short
    site: Short


class Reservations(msgspec.Struct):
    items: list[ReservationItem]


class Signing(msgspec.Struct):
    rival: bool = False


class Document(msgspec.Struct):
    """A proposal for a file: base64 of its bytes."""

    document: str


class RotationView(msgspec.Struct):
    node: str
    key: str
    proposal: ProposalView | None


async def _propose(call: Call, action: str, target: str, draft: Draft) -> ProposalView:
    motion = await call.core.ledger.council.propose(draft)
    await call.note(action, target, outcome="proposed" if motion.missing else "allowed")
    return proposal_view(call, motion)


def _node(call: Call, text: str) -> str:
    """The member whose id begins so, or whose name this is.  Raises NotFoundError."""
    people = call.core.ledger.authority.people()
    named = [n for n, member in people.items() if text and member.name == text]
    found = named or [n for n in people if n.startswith(text) and len(text) >= PREFIX_MIN]
    if len(found) != 1:
        raise NotFoundError(f"{'several members are' if found else 'no member is'} {text!r}")
    return found[0]


@table.route("POST", "/mesh/evictions", Access.MANAGE, body=Eviction, answer=ProposalView)
async def evict(call: Call) -> ProposalView:
    """Shut a node out for good, everywhere, as soon as enough owners have signed."""
    node, reason = _node(call, call.body.node), call.body.reason
    return await _propose(call, "mesh.evict", node, lambda desk: desk.evict(node, reason))


@table.route("PATCH", "/mesh/members/{node}", Access.MANAGE, body=MemberChange, answer=ProposalView)
async def change_member(call: Call) -> ProposalView:
    """Change a member's roles, repositories, site or name, or settle its key."""
    node, body = _node(call, call.params["node"]), call.body
    key = _bytes(body.key, 32) if body.key else None
    scopes = None if body.repositories is None else tuple(body.repositories)
    return await _propose(
        call,
        "mesh.roles",
        node,
        lambda desk: desk.change(
            node,
            roles=None if body.roles is None else tuple(body.roles),
            scopes=scopes,
            site=body.site,
            name=body.name,
            key=key,
        ),
    )


@table.route("PUT", "/mesh/owners", Access.MANAGE, body=Ownership, answer=ProposalView)
async def change_owners(call: Call) -> ProposalView:
    """Say which nodes own the mesh, and how many of them must sign."""
    authority = call.core.ledger.authority
    people, names = authority.people(), owner_keys(authority)
    keys = []
    for text in call.body.owners:
        held = next((key for key, node in names.items() if text == key.hex()), None)
        node = "" if held else _node(call, text)
        standing = next((key for key, owner in names.items() if owner == node and node), None)
        keys.append(held or standing or people[node].key)
    if not keys or not all(keys):
        raise RejectedError("an owner is missing, or its key is in dispute")
    threshold = call.body.threshold or None
    if threshold is not None and not len(keys) / 2 < threshold <= len(keys):
        raise RejectedError("the threshold is a majority of the owners")
    target = f"{threshold or 'most'} of {len(keys)}"
    return await _propose(call, "mesh.owners", target, lambda desk: desk.govern(keys, threshold))


@table.route(
    "PUT", "/mesh/delegations/{node}", Access.MANAGE, body=NewDelegation, answer=ProposalView
)
async def delegate(call: Call) -> ProposalView:
    """Let a member admit others by itself, within bounds."""
    node, body = _node(call, call.params["node"]), call.body
    if not 0 < body.expires_in <= DELEGATION_MAX:
        raise RejectedError("expires_in is between 1 second and 10 years")
    until = int((time.time() + body.expires_in) * 1000)
    texts = (tuple(body.roles), tuple(body.repositories), tuple(body.sites))
    terms = Delegation(node, *texts, until, body.limit)
    return await _propose(call, "mesh.delegate", node, lambda desk: desk.delegate(terms))


@table.route("DELETE", "/mesh/delegations/{node}", Access.MANAGE, answer=ProposalView)
async def withdraw(call: Call) -> ProposalView:
    """End a delegation; whom it admitted stays, signed in by the owners."""
    node = _node(call, call.params["node"])
    return await _propose(call, "mesh.withdraw", node, lambda desk: desk.withdraw(node))


@table.route("PUT", "/mesh/reservations", Access.MANAGE, body=Reservations, answer=ProposalView)
async def reserve(call: Call) -> ProposalView:
    """Say which names, or whole repositories (an empty prefix), only one site may write."""
    rules = [Reserved(r.repositories, r.prefix, r.site) for r in call.body.items]
    target = str(len(rules))
    return await _propose(call, "mesh.reserve", target, lambda desk: desk.reserve(rules))


@table.route("POST", "/mesh/settlement", Access.MANAGE, answer=ProposalView)
async def settle(call: Call) -> ProposalView:
    """Draft the document that names all rivals."""
    return await _propose(call, "mesh.settle", "", lambda desk: desk.settle())


# --- proposals -----------------------------------------------------------------------------------
async def _proposal(call: Call) -> bytes:
    text = call.params["id"]
    found = [
        m.id for m in await call.core.ledger.council.proposals() if m.id.hex().startswith(text)
    ]
    if len(found) != 1 or len(text) < PREFIX_MIN:
        raise NotFoundError(f"no proposal {text!r}: it is in force, or out of date")
    return found[0]


@table.route(
    "POST", "/mesh/proposals/{id}/signature", Access.MANAGE, body=Signing, answer=ProposalView
)
async def sign(call: Call) -> ProposalView:
    """Sign a proposal with the owner's key that this node holds."""
    id_ = await _proposal(call)
    motion = await call.core.ledger.council.sign(id_, rival=call.body.rival)
    await call.note("mesh.sign", id_.hex(), outcome="proposed" if motion.missing else "allowed")
    return proposal_view(call, motion)


@table.route("GET", "/mesh/proposals/{id}", Access.MANAGE, answer=Document)
async def export(call: Call) -> Document:
    """Give a proposal as it travels, to be carried to another owner by hand."""
    data = await call.core.ledger.council.proposal(await _proposal(call))
    return Document(base64.b64encode(data).decode("ascii"))


class Imported(msgspec.Struct):
    new: bool


class ImportedDocument(msgspec.Struct):
    document: Annotated[str, msgspec.Meta(max_length=DOCUMENT_MAX)]  # base64, in a body of a MiB


@table.route("POST", "/mesh/proposals", Access.MANAGE, body=ImportedDocument, answer=Imported)
async def take(call: Call) -> Imported:
    """Take a root document or proposal from a file; only owners' signatures make it count."""
    try:
        data = base64.b64decode(call.body.document, validate=True)
    except ValueError:
        raise RejectedError("the document is not base64") from None
    new = await call.core.ledger.adopt(data)
    await call.note("mesh.import", hashlib.sha256(data).hexdigest())
    return Imported(new)


@table.route("DELETE", "/mesh/proposals/{id}", Access.MANAGE, answer=None, status=204)
async def forget(call: Call) -> None:
    """Forget a proposal here; peers that have it may bring it again."""
    id_ = await _proposal(call)
    await call.core.ledger.council.forget(id_)
    await call.note("mesh.forget", id_.hex())


# --- keys ----------------------------------------------------------------------------------------
@table.route("POST", "/mesh/rotation", Access.MANAGE, answer=RotationView)
async def rotate(call: Call) -> RotationView:
    """Give this node another key; the old one is worth nothing wherever that is heard."""
    core = call.core
    made = await core.ledger.council.rotate()
    await call.note("mesh.rotate", made.new.hex())
    waiting = await core.ledger.council.proposals()
    following = next((m for m in waiting if made.new in m.document.owners), None)
    view = None if following is None else proposal_view(call, following)
    return RotationView(made.node, made.new.hex(), view)


def _bytes(text: str, size: int) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != size:
        raise RejectedError(f"{text[:20]!r} is not {size} bytes in hexadecimal")
    return data
