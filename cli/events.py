"""Events as they happen, and webhooks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import urlencode

import click
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table


def read_events(lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The (id, event)s of a stream."""
    last = ""
    for line in lines:
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "id":
            last = value
        elif name == "data":
            yield last, json.loads(value)


def event_line(event: Mapping[str, Any]) -> str:
    """One event for people."""
    if "type" not in event:
        return f"-- {event.get('reason', '')}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    place = [event.get(name, "") for name in ("repository", "package", "version", "name")]
    elsewhere = "" if event["node"] == event["seen_by"] else f"  by {event['node'][:12]}"
    return f"{when}  {event['type']:<20} {' '.join(filter(None, place))}{elsewhere}"


@click.command(epilog="Example: atoll events --data ./node --type 'artifact.*'")
@data_option
@click.option("--type", "types", default="", help="Patterns of types, with commas.")
@click.option("--repository", metavar="KEY", default="", help="Keys or patterns, with commas.")
@click.option("--since", metavar="ID", default="", help="Go on after this id (see --json).")
@click.option("--number", type=int, default=0, help="End after so many; 0: never.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, for scripts.")
def events(
    data: str | None, *, types: str, repository: str, since: str, number: int, as_json: bool
) -> None:
    """Print events as they happen, until interrupted."""
    asked = urlencode({"types": types, "repository": repository, "last_event_id": since})
    with connect(data) as node:
        found = read_events(node.lines("GET", f"/events/stream?{asked}", None))
        for count, (last, event) in enumerate(found, 1):
            click.echo(json.dumps({"id": last, **event}) if as_json else event_line(event))
            if count == number:
                return


@click.group()
def webhook() -> None:
    """Make, list, test and repair webhooks."""


def webhooks_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay webhooks out with how their deliveries stand."""
    right = [Column(title, justify="right") for title in ("Waiting", "Dead")]
    return table(
        ("Id", "Name", "URL", "Events", "Repositories", "Node", *right),
        [
            (
                each["id"],
                each["name"] + ("" if each["is_enabled"] else " (off)"),
                each["url"],
                " ".join(each["events"]) or "all",
                " ".join(each["repositories"]) or "all",
                each["node"][:12],
                *((each["deliveries"] or {}).get(state, "?") for state in ("pending", "dead")),
            )
            for each in items
        ],
    )


@webhook.command("list", epilog="Example: atoll webhook list --data ./node")
@data_option
@json_option
def list_webhooks(data: str | None, *, as_json: bool) -> None:
    """List webhooks; what waits is known on the node that delivers."""
    with connect(data) as node:
        items = node.call("GET", "/webhooks")["items"]
    show(items, webhooks_table(items), as_json=as_json, empty="No webhooks yet.")


@webhook.command(epilog="Example: atoll webhook create --data ./node https://ci.example/hook")
@data_option
@click.option("--name", default="")
@click.option("--event", "event_types", multiple=True, help="A pattern of types; artifact.*")
@click.option("--repository", "repositories", multiple=True, metavar="KEY")
@click.option("--node", "member", default="", help="The member that delivers; this one.")
@click.option("--secret", type=click.File("r"), help="Its secret; - reads it.")
@json_option
@click.argument("url")
def create(
    data: str | None,
    url: str,
    *,
    name: str,
    event_types: Sequence[str],
    repositories: Sequence[str],
    member: str,
    secret: TextIO | None,
    as_json: bool,
) -> None:
    """Send events to URL; prints the id and the secret, which is shown only now."""
    body: dict[str, Any] = {
        "url": url,
        "name": name,
        "repositories": list(repositories),
        "node": member,
    }
    if event_types:
        body["events"] = list(event_types)
    if secret is not None:
        body["secret"] = secret.readline().strip()
    with connect(data) as node:
        made = node.call("POST", "/webhooks", body)
    show(made, table(("Id", "Secret"), [(made["id"], made["secret"])]), as_json=as_json)


@webhook.command(epilog="Example: atoll webhook delete --data ./node ID")
@data_option
@click.argument("name")
def delete(data: str | None, name: str) -> None:
    """Delete a webhook and what waits for it."""
    with connect(data) as node:
        node.call("DELETE", f"/webhooks/{name}")


@webhook.command(epilog="Example: atoll webhook rotate --data ./node ID")
@data_option
@click.argument("name")
def rotate(data: str | None, name: str) -> None:
    """Print a new secret; for a day the former one signs as well."""
    with connect(data) as node:
        click.echo(node.call("POST", f"/webhooks/{name}/secret", {})["secret"])


@webhook.command(epilog="Example: atoll webhook test --data ./node ID")
@data_option
@click.argument("name")
def test(data: str | None, name: str) -> None:
    """Send an event that says nothing but that it arrives; see `deliveries`."""
    with connect(data) as node:
        node.call("POST", f"/webhooks/{name}/test")


def deliveries_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay deliveries out, newest first."""
    return table(
        ("Id", "Event", "State", Column("Tries", justify="right"), "Answer"),
        [
            (
                each["id"],
                each["event_type"],
                each["state"],
                each["attempts"],
                each["error"] or each["status"] or "",
            )
            for each in items
        ],
    )


@webhook.command(epilog="Example: atoll webhook deliveries --data ./node ID --state dead")
@data_option
@click.option("--state", type=click.Choice(["pending", "delivered", "dead"]), default=None)
@json_option
@click.argument("name")
def deliveries(data: str | None, name: str, *, state: str | None, as_json: bool) -> None:
    """List a webhook's deliveries; --state dead lists those that were given up."""
    with connect(data) as node:
        items = node.call("GET", f"/webhooks/{name}/deliveries?state={state or ''}")["items"]
    show(items, deliveries_table(items), as_json=as_json, empty="No deliveries.")


@webhook.command(epilog="Example: atoll webhook redeliver --data ./node ID 17 18")
@data_option
@click.argument("name")
@click.argument("ids", nargs=-1, type=int)
def redeliver(data: str | None, name: str, ids: Sequence[int]) -> None:
    """Send deliveries again; without IDS every dead one."""
    with connect(data) as node:
        body = {"ids": list(ids)} if ids else {}
        found = node.call("POST", f"/webhooks/{name}/redeliver", body)
    click.echo(f"{found['redelivered']} will be sent again")
