"""What moves between this node and its peers, how long it will take, and why as it does."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from mesh.status import LinkStatus, SendingStatus, TransferStatus, Why
from node.api.contract import Access, Call, Long, Table
from store.digest import Digest
from store.errors import NotFoundError, UnavailableError

table = Table("transfers")


class TransferList(msgspec.Struct):
    items: list[TransferStatus]
    sending: list[SendingStatus]


def mesh_of(call: Call) -> Any:
    """Return the node's mesh.  Raises UnavailableError while it does not run."""
    if call.core.mesh is None:
        raise UnavailableError("the mesh is not running on this node")
    return call.core.mesh


@table.route("GET", "/mesh/transfers", Access.MANAGE, answer=TransferList)
async def list_transfers(call: Call) -> TransferList:
    """Show what is being fetched and sent, with whom, how far it is and how long it will take."""
    insight = mesh_of(call).insight
    return TransferList(insight.transfers(), insight.sending())


@table.route("GET", "/mesh/transfers/{digest}", Access.MANAGE, answer=Why)
async def explain(call: Call) -> Why:
    """Explain a transfer, under way or ended lately: sources, choices, and the reason of each."""
    digest = Digest.parse(call.params["digest"])
    found: Why | None = mesh_of(call).insight.why(digest)
    if found is None:
        raise NotFoundError(f"{digest}: nothing is known of a transfer; only the last are kept")
    return found


class LinkList(msgspec.Struct):
    items: list[LinkStatus]
    rules: list[str]


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    """Rules for links; null: those of the configuration."""

    rules: Annotated[list[Long], msgspec.Meta(max_length=256)] | None


def _links(call: Call) -> LinkList:
    insight = mesh_of(call).insight
    return LinkList(insight.paths(), insight.limits)


@table.route("GET", "/mesh/links", Access.MANAGE, answer=LinkList)
async def list_links(call: Call) -> LinkList:
    """Show what is believed of the path to each peer, and the rules laid down for links."""
    return _links(call)


@table.route("PUT", "/mesh/links/rules", Access.MANAGE, body=Rules, answer=LinkList)
async def lay_down(call: Call) -> LinkList:
    """Replace the rules for links: caps, metered or dear ones, hours for what nobody waits for."""
    body: Rules = call.body
    await mesh_of(call).limit(body.rules)
    await call.note("mesh.links", "" if body.rules is None else "; ".join(body.rules)[:1000])
    return _links(call)
