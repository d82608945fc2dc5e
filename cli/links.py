"""What the paths to peers are like, and what the operator has laid down about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show
from cli.transfers import rate_text, time_text

BARS = " ▁▂▃▄▅▆▇█"  # one character an hour, the fuller the more it was up


def milliseconds(value: float | None) -> str:
    """Return a duration for people; nothing if it is unknown."""
    return "" if value is None else f"{value * 1000:.0f} ms"


def day(hours: Sequence[float | None]) -> str:
    """Draw the share of each hour of the day that a link was up; a dot where nobody looked."""
    top = len(BARS) - 1
    return "".join("·" if each is None else BARS[round(each * top)] for each in hours)


def terms(link: Mapping[str, Any]) -> str:
    """Say what is laid down for a link.  Pure."""
    words = []
    if link["up_cap"] is not None:
        words.append(f"up ≤ {rate_text(link['up_cap'])}")
    if link["down_cap"] is not None:
        words.append(f"down ≤ {rate_text(link['down_cap'])}")
    if link["metered"]:
        words.append("metered")
    if link["cost"]:
        words.append(f"cost {link['cost']:g}")
    if not link["background"]:
        words.append("no background now")
    return ", ".join(words)


def links_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay links out as they come, nearest first.  Pure."""
    right = ("RTT", "At best", "Queue", "Receives", "Sends", "Resent", "Sockets", "Up", "Outages")
    columns = [Column(title, justify="right") for title in right]
    layout = Table("Peer", "Site", *columns, "Hours 0–23", "Laid down")
    for each in items:
        outages = str(each["outages"]) if each["outages"] else ""
        if each["outages"]:
            outages += f", {time_text(each['outage_usual'])}"
        layout.add_row(
            each["name"],
            each["site"],
            milliseconds(each["rtt"]),
            milliseconds(each["rtt_min"]),
            milliseconds(each["queue"]) if each["rtt"] is not None else "",
            rate_text(each["down"] or 0),
            rate_text(each["sending"] or 0),
            "" if each["loss"] is None else f"{each['loss']:.1%}",
            str(each["sockets"] or ""),
            "" if each["availability"] is None else f"{each['availability']:.0%}",
            outages,
            day(each["hours"]),
            terms(each),
            style="" if each["up"] else "dim",
        )
    return layout


@click.command(epilog='Example: atoll mesh links --data ./node --rule "site:ship up=2Mbit metered"')
@data_option
@json_option
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="RULE",
    help="Lay down rules instead of those in force: node:ID, site:NAME or *, then up=RATE, "
    "down=RATE, metered, cost=N, hours=22:00-06:00.",
)
@click.option("--configured", is_flag=True, help="Go back to the rules of the configuration.")
def links(data: str | None, rules: tuple[str, ...], *, as_json: bool, configured: bool) -> None:
    """Show what the paths to peers are like; lay down caps, metered links and hours."""
    if rules and configured:
        raise click.UsageError("either --rule or --configured")
    with connect(data) as node:
        if rules or configured:
            body = {"rules": None if configured else list(rules)}
            found = node.call("PUT", "/mesh/links/rules", body)
        else:
            found = node.call("GET", "/mesh/links")
    show(found, links_table(found["items"]), as_json=as_json, empty="No peers yet.")
    if not as_json:
        for rule in found["rules"]:
            click.echo(f"rule: {rule}")
