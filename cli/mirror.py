"""Mirroring: fetch what a list or lock file names before anybody asks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table

POLL = 0.5  # seconds
HOURS = 3600.0


def mirrors_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay lists out with how far they have got."""
    right = [Column(title, justify="right") for title in ("Done", "Failed", "Left")]
    return table(
        ("List", "State", *right, "Every"),
        [
            (
                each["name"],
                "running" if each["running"] else "done",
                each["done"],
                each["failed"],
                each["left"],
                f"{each['every_seconds'] / HOURS:g} h" if each["every_seconds"] else "once",
            )
            for each in items
        ],
    )


@click.command(epilog="Example: atoll mirror --data ./node pypi-proxy requirements.txt --every 24")
@data_option
@click.option("--every", type=float, default=0.0, help="Hours after which to look again.")
@click.option("--remove", is_flag=True, help="Stop mirroring this list; what is here stays.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is done.")
@json_option
@click.argument("key")
@click.argument("file", required=False, type=click.Path(path_type=Path))
def mirror(
    data: str | None,
    key: str,
    file: Path | None,
    *,
    every: float,
    remove: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Fetch what FILE names into the remote repository KEY; without FILE, show the lists.

    FILE is requirements.txt (PyPI), package-lock.json (npm), pom.xml (Maven), or a list: images
    for OCI, packages after a line "suite component architecture" for Debian, else paths.
    """
    place = f"/repositories/{key}/mirrors"
    with connect(data) as node:
        if file is not None and remove:
            node.call("DELETE", f"{place}/{file.name}")
        elif file is not None:
            body = {"text": file.read_text("utf-8"), "every_seconds": every * HOURS}
            node.call("PUT", f"{place}/{file.name}", body)
        items = node.call("GET", place)["items"]
        while wait and any(each["running"] for each in items):
            time.sleep(POLL)
            items = node.call("GET", place)["items"]
    show(items, mirrors_table(items), as_json=as_json, empty="Nothing is mirrored here.")
    troubles = [each for item in items for each in item["troubles"]]
    for each in troubles if not as_json else ():
        click.echo(each, err=True)
    if file is not None and any(e["failed"] for e in items if e["name"] == file.name):
        raise SystemExit(1)
