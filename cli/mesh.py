"""The mesh: invitations, peers, topology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.filesize import decimal
from rich.table import Column, Table

from cli.bundles import standing
from cli.conflicts import conflicts, resolve
from cli.connection import connect
from cli.couriers import couriers
from cli.links import links
from cli.members import COMMANDS
from cli.options import data_option, json_option
from cli.output import show
from cli.placement import placement
from cli.topology import topology
from cli.transfers import transfers, why


@click.group()
def mesh() -> None:
    """Invite nodes, say who may do what, evict, look at peers and links."""


mesh.add_command(conflicts)
mesh.add_command(resolve)
mesh.add_command(placement)
mesh.add_command(links)
mesh.add_command(transfers)
mesh.add_command(couriers)
mesh.add_command(topology)
mesh.add_command(why)
mesh.add_command(standing)
for command in COMMANDS:
    mesh.add_command(command)


def path_text(peer: Mapping[str, Any]) -> str:
    """Say which way a peer's sockets go; one word when both go the same.  Pure."""
    control, bulk = peer.get("path", ""), peer.get("bulk_path", "")
    return control if bulk in ("", control) else f"{control}, chunks {bulk}"


def peers_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay peers out, nearest first; the unreachable ones are dimmed.  Pure."""
    columns = (
        "Peer",
        "Name",
        "Site",
        "Address",
        "Found",
        "Path",
        "State",
        Column("RTT", justify="right"),
        Column("Received", justify="right"),
        Column("Sent", justify="right"),
        Column("Strikes", justify="right"),
        "Trouble",
    )
    found = Table(*columns)
    for each in sorted(items, key=lambda p: (p.get("rtt") or 9e9, p["node"])):
        rtt = each.get("rtt")
        found.add_row(
            each["node"][:8],
            each.get("name", ""),
            each.get("site", ""),
            each.get("address", ""),
            each.get("found", ""),
            path_text(each),
            each["state"],
            f"{rtt * 1000:.0f} ms" if rtt else "",
            decimal(int(each.get("received", 0))),
            decimal(int(each.get("sent", 0))),
            str(each.get("strikes", 0)),
            each.get("trouble", ""),
            style="" if each["state"] == "up" else "dim",
        )
    return found


def authors_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out the authors whose ledgers are in trouble, with every reason.  Pure."""
    found = Table("Author", "Name", "Records", "Trouble", title="Ledgers in trouble")
    for each in items:
        reasons = [f"{reason} ({count})" for reason, count in each["reasons"].items()]
        if each["forked"] is not None:
            reasons.append(f"forked: nothing counts from record {each['forked']} on")
        if each["rejected"]:
            reasons.append(f"refused {each['rejected_count']} times: {each['rejected']}")
        if reasons:
            state = f"{each['seq']} known, {each['held']} held, {each['refused']} refused"
            found.add_row(each["author"][:8], each["name"], state, "; ".join(reasons))
    return found


@mesh.command(epilog="Example: atoll mesh peers --data ./node --json")
@data_option
@json_option
def peers(data: str | None, *, as_json: bool) -> None:
    """Show the peers this node is linked to, and any author whose ledger is in trouble."""
    with connect(data) as node:
        found = node.call("GET", "/mesh/peers")
    show(found, peers_table(found["items"]), as_json=as_json, empty="No peers yet.")
    troubled = authors_table(found["authors"])
    if troubled.row_count and not as_json:
        show(found["authors"], troubled, as_json=False)
