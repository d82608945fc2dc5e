"""Checking what a node keeps."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.filesize import decimal

from cli.connection import connect
from cli.options import data_option
from store.errors import RegistryError


@click.command(epilog="Example: atoll verify --data ./node --repair")
@data_option
@click.option("--repair", is_flag=True, help="Put right what can be; wrong bytes come from peers.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, for scripts.")
def verify(data: str | None, *, repair: bool, as_json: bool) -> None:
    """Hash every blob, verify every record, and check index and catalog against them.

    Fails if anything is wrong and not healed.
    """
    console = Console(stderr=True)
    left, verdict = 0, {}
    with connect(data) as node, console.status("") as status:
        for line in node.lines("POST", "/verify", {"repair": repair}):
            event = json.loads(line)
            if as_json:
                click.echo(line.decode().rstrip())
            if event["type"] == "progress" and sys.stderr.isatty():
                status.update(f"{event['done']} {event['what']}")
            elif event["type"] == "finding":
                left += not event["healed"]
                if not as_json:
                    click.echo(sentence(event))
            elif event["type"] == "verdict":
                verdict = event
    if not verdict:
        raise RegistryError("the node ended before it was through")
    if not as_json:
        kept = f"{verdict['blobs']} blobs ({decimal(verdict['bytes'])})"
        found = f"{verdict['findings']} findings, {verdict['healed']} healed"
        click.echo(f"{kept}, {verdict['records']} records: {found}")
    if left:
        raise RegistryError(f"{left} findings are not healed")


def sentence(event: dict[str, object]) -> str:
    """One finding for people.  Pure."""
    state = "healed" if event["healed"] else "WRONG"
    detail = f" ({event['detail']})" if event["detail"] else ""
    return f"{state} {event['kind']} {event['name']}: {event['trouble']}{detail}"
