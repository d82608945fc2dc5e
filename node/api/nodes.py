"""The node itself, its formats, its mesh and its audit log."""

from __future__ import annotations

from typing import Any

import msgspec

from node.api.contract import Access, Call, Raw, Table
from node.core import VERSION

table = Table("node")


class NodeView(msgspec.Struct):
    node_id: str
    name: str
    site: str
    version: str
    urls: list[str]


class FormatView(msgspec.Struct):
    name: str
    keys: list[str]
    mounts: list[str]
    client_settings: dict[str, str]


class FormatList(msgspec.Struct):
    items: list[FormatView]


class Joining(msgspec.Struct):
    invitation: str


class AuditList(msgspec.Struct):
    items: list[dict[str, Any]]


@table.route("GET", "/node", Access.OPEN, answer=NodeView)
async def show_node(call: Call) -> NodeView:
    """Tell who this node is."""
    return NodeView(**call.core.details())


@table.route("GET", "/version", Access.OPEN, answer=dict[str, str])
async def version(call: Call) -> dict[str, str]:
    """Tell the version."""
    return {"name": "atoll", "version": VERSION}


@table.route("GET", "/formats", Access.OPEN, answer=FormatList)
async def list_formats(call: Call) -> FormatList:
    """List the package formats and the settings their clients need."""
    return FormatList(
        [
            FormatView(f.name, list(f.keys), list(f.mounts), dict(f.client_settings))
            for f in call.core.formats
        ]
    )


@table.route("GET", "/mesh/peers", Access.MANAGE, answer=dict[str, Any])
async def mesh_peers(call: Call) -> dict[str, Any]:
    """Show the peers, their links, and what is wrong with any author's ledger."""
    return {
        "items": msgspec.to_builtins(call.mesh.peers()),
        "authors": msgspec.to_builtins(await call.core.ledger.authors_status()),
    }


@table.route("GET", "/mesh/topology", Access.MANAGE, answer=dict[str, Any])
async def mesh_topology(call: Call) -> dict[str, Any]:
    """Show the members of the mesh by site, and the links that this node knows of."""
    found: dict[str, Any] = msgspec.to_builtins(call.mesh.topology())
    return found


@table.route("POST", "/mesh/join", Access.MANAGE, body=Joining, answer=NodeView)
async def join(call: Call) -> NodeView:
    """Join another mesh by an invitation; this node's packages come along."""
    await call.mesh.join(call.body.invitation)
    await call.note("mesh.join", "")
    return NodeView(**call.core.details())


@table.route("GET", "/admin/audit", Access.MANAGE, answer=AuditList, parameters=("before", "limit"))
async def list_audit(call: Call) -> AuditList:
    """List who did what, newest first."""
    before = call.number("before", 0, 1 << 62) or None
    limit = max(1, call.number("limit", 100))
    found = await call.core.audit.entries(before=before, limit=limit)
    return AuditList([msgspec.to_builtins(each) for each in found])


@table.route("GET", "/admin/metrics", Access.MANAGE)
async def metrics(call: Call) -> Raw:
    """Show the Prometheus metrics."""
    return Raw(body=await call.core.metrics.text(), media_type="text/plain; version=0.0.4")
