"""What is carried between sites that are never up together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show
from cli.transfers import SHORT, time_text


def cargo_table(items: Sequence[Mapping[str, Any]], now: float) -> Table:
    """Lay out what is carried, coming or wanted, and for whom.  Pure."""
    layout = Table("What", Column("Size", justify="right"), "State", "For", "Why", "Lapses in")
    for each in items:
        wishes = each["wishes"]
        whose = sorted({wish["target"][:8] for wish in wishes})
        why = "asked for" if any(wish["urgent"] for wish in wishes) else "placed there"
        if wishes and all(wish["guessed"] for wish in wishes):
            why = "placed there, as far as we know"
        last = max((wish["expires"] for wish in wishes), default=None)
        layout.add_row(
            each["blob"][:SHORT],
            decimal(each["size"]) if each["size"] else "?",
            each["state"],
            " ".join(whose),
            why if wishes else "",
            time_text(max(0.0, last - now)) if last is not None else "",
            style="dim" if each["state"] == "wanted" else "",
        )
    return layout


def summary(found: Mapping[str, Any]) -> str:
    """Say in a few sentences what this node does about couriers.  Pure."""
    lines = []
    if found["carrying"]:
        lines.append(
            f"This node carries for others: {decimal(found['used'])} of {decimal(found['budget'])} "
            f"used, {found['wishes']} wishes known, {found['delivered']} blobs delivered, "
            f"{found['expired']} lapsed, {found['displaced']} displaced."
        )
    else:
        lines.append("This node carries nothing for others (role courier, or mesh.courier = on).")
    lines += [
        f"Courier {each['courier'][:8]} has been asked for {each['blobs']} blobs."
        for each in found["told"]
    ]
    if found["lacking"]:
        lines.append(f"Clients here asked for {found['lacking']} blobs that nobody reachable had.")
    if found["more"]:
        lines.append(f"{found['more']} more are not shown.")
    return "\n".join(lines)


@click.command(epilog="Example: atoll mesh couriers --data ./node")
@data_option
@json_option
def couriers(data: str | None, *, as_json: bool) -> None:
    """Show what this node carries between sites that are never up together, and for whom."""
    with connect(data) as node:
        found = node.call("GET", "/mesh/couriers")
    if not as_json:
        Console().print(summary(found), highlight=False)
    show(found, cargo_table(found["items"], time.time()), as_json=as_json, empty="")
