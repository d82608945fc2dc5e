"""What moves between this node and its peers, how long it will take, and why as it does."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.status import SendingStatus, TransferStatus, Why
from node.api.contract import Access, Call, Table
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
