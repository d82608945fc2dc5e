"""The mesh as people see it: sites, members, links, and what moves where."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from cli.connection import connect
from cli.options import data_option
from cli.output import show, table
from cli.transfers import rate_text, time_text, transfers_table

Look = Callable[[], tuple[Any, Any]]
SECOND = 1.0  # between looks, unless told otherwise


def nodes_table(found: Mapping[str, Any]) -> Table:
    """Lay members out by site, with those that each is linked with.  Pure."""
    rows = [
        (
            each["site"],
            each["node"][:8],
            each.get("name", ""),
            " ".join(each.get("roles", [])),
            " ".join(each.get("links", [])),
        )
        for each in sorted(found["nodes"], key=lambda n: (n["site"], n["node"]))
    ]
    return table(("Site", "Node", "Name", "Roles", "Links"), rows)


def links_table(found: Mapping[str, Any]) -> Table:
    """Lay links out, those between sites first; hearsay tells its age.  Pure."""
    named = {each["node"]: each.get("name") or each["node"][:8] for each in found["nodes"]}
    sites = {each["node"]: each["site"] for each in found["nodes"]}
    numbers = ("RTT", "Rate →", "Rate ←", "Resent", "Moving →", "Moving ←", "Left")
    layout = Table(
        "Between", "and", "Sites", "Path", *(Column(n, justify="right") for n in numbers), "Heard"
    )
    for each in sorted(found.get("links", ()), key=lambda link: _rank(link, sites)):
        one, other = each["nodes"]
        near = sites.get(one) == sites.get(other)
        where = sites.get(one, "?") if near else f"{sites.get(one, '?')} – {sites.get(other, '?')}"
        rtt, resent = each["rtt"], each["resent"]
        layout.add_row(
            named.get(one, one[:8]),
            named.get(other, other[:8]),
            where,
            each["path"],
            f"{rtt * 1000:.1f} ms" if rtt is not None else "",
            rate_text(each["rates"][1] or 0.0),
            rate_text(each["rates"][0] or 0.0),
            f"{resent:.1%}" if resent is not None else "",
            rate_text(each["moving"][1]),
            rate_text(each["moving"][0]),
            time_text(each["left"]) if each["left"] is not None else "",
            "" if each["age"] is None else f"{time_text(each['age'])} ago",
            style="" if each["age"] is None else "dim",
        )
    return layout


def _rank(link: Mapping[str, Any], sites: Mapping[str, str]) -> tuple[bool, Sequence[str]]:
    one, other = link["nodes"]
    return sites.get(one) == sites.get(other), link["nodes"]


def view(found: Mapping[str, Any], moving: Mapping[str, Any]) -> RenderableType:
    """Lay everything out that one looks at for long: members, links, transfers.  Pure."""
    unsettled = ", rival root documents" if found["contested"] else ""
    head = Text(f"Mesh {found['mesh'][:8]}, root document {found['root_version']}{unsettled}")
    parts: list[RenderableType] = [head, nodes_table(found), links_table(found)]
    left = sum(each["size"] - each["verified"] for each in moving["items"])
    if moving["items"] or moving["sending"]:
        parts += [Text(f"{len(moving['items'])} blobs coming, {decimal(left)} left")]
        parts += [transfers_table(moving)]
    else:
        parts += [Text("Nothing moves.")]
    return Group(*parts)


@click.command(epilog="Example: atoll mesh topology --data ./node --watch")
@data_option
@click.option("--watch", is_flag=True, help="Look again every second, until interrupted.")
@click.option("--every", type=click.FloatRange(0.1), default=SECOND, metavar="SECONDS")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts; a line a look.")
def topology(data: str | None, *, watch: bool, every: float, as_json: bool) -> None:
    """Show the mesh: sites, members, links with their rates, and what moves where."""
    with connect(data) as node:

        def look() -> tuple[Any, Any]:
            return node.call("GET", "/mesh/topology"), node.call("GET", "/mesh/transfers")

        if not watch:
            found = node.call("GET", "/mesh/topology")
            show(found, nodes_table(found), as_json=as_json)
            if not as_json and found.get("links"):
                show(found, links_table(found), as_json=False)
            return
        with suppress(KeyboardInterrupt):
            (_stream if as_json else _watch)(look, every)


def _stream(look: Look, every: float) -> None:
    """Print a line a look."""
    while True:
        found, moving = look()
        show({**found, "transfers": moving}, Table(), as_json=True)
        time.sleep(every)


def _watch(look: Look, every: float) -> None:
    """Show what there is until interrupted."""
    with Live(view(*look()), auto_refresh=False, screen=True) as screen:
        while True:
            time.sleep(every)
            screen.update(view(*look()), refresh=True)
