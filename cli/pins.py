"""Pins: content that a node or a site keeps, whatever the rules say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click
from rich.table import Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table


@click.group()
def pin() -> None:
    """Keep content on a node or at a site."""


def pins_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay pins out by what they name.  Pure."""
    rows = [
        (
            each["id"][:8],
            each["repository"],
            each["path"] or each["digest"] or "(all)",
            each["site"] or "",
            each["node"][:8],
            each["created_by"],
        )
        for each in sorted(items, key=lambda p: (p["repository"], p["path"], p["digest"]))
    ]
    return table(("Id", "Repository", "What", "Site", "Node", "By"), rows)


def split_what(what: str) -> dict[str, str]:
    """Take ``REPO``, ``REPO/PATH`` or ``REPO/sha256:…`` apart."""
    repository, _, rest = what.partition("/")
    found = {"repository": repository}
    if rest.startswith(("sha256:", "sha512:")):
        found["digest"] = rest
    elif rest:
        found["path"] = rest
    return found


@pin.command(epilog="Example: atoll pin add 'pypi/numpy/*' --site ship --data ./node")
@data_option
@click.option("--node", "node_name", default="", help="Who keeps it; by default this node.")
@click.option("--site", default="", help="Instead: one node of this site keeps it.")
@click.argument("what", metavar="REPO[/PATH-or-digest]")
def add(data: str | None, node_name: str, site: str, what: str) -> None:
    """Pin a repository, the files that a path or pattern names, or one digest; print the id."""
    body = {**split_what(what), "node": node_name, "site": site}
    with connect(data) as node:
        click.echo(node.call("POST", "/pins", body)["id"])


@pin.command("rm", epilog="Example: atoll pin rm 1f0c2b3a --data ./node")
@data_option
@click.argument("pin_id", metavar="ID")
def remove(data: str | None, pin_id: str) -> None:
    """Remove a pin by its id, or the beginning of it."""
    with connect(data) as node:
        items = node.call("GET", "/pins")["items"]
        found = [each["id"] for each in items if each["id"].startswith(pin_id)]
        chosen = found[0] if len(found) == 1 else pin_id
        node.call("DELETE", f"/pins/{quote(chosen, safe='')}")


@pin.command("list", epilog="Example: atoll pin list --data ./node --json")
@data_option
@json_option
def list_pins(data: str | None, *, as_json: bool) -> None:
    """List what is pinned."""
    with connect(data) as node:
        items = node.call("GET", "/pins")["items"]
    show(items, pins_table(items), as_json=as_json, empty="Nothing is pinned.")
