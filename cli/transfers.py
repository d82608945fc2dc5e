"""What moves between nodes, and why as it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show

SHORT = 19  # characters of a digest that tell blobs apart: sha256: and twelve more


def rate_text(rate: float) -> str:
    """Return bytes per second for people; nothing if nothing moves."""
    return f"{decimal(int(rate))}/s" if rate >= 1 else ""


def time_text(seconds: float | None) -> str:
    """Return a duration for people, in the two largest units."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def transfers_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Lay out what comes and what goes.  Pure."""
    right = ("Size", "Here", "Rate", "Left")
    columns = [Column(title, justify="right") for title in right]
    layout = Table("", "What", "State", "With", *columns)
    for each in found["items"]:
        size = each["size"]
        layout.add_row(
            "in",
            each["blob"][:SHORT],
            each["state"] + (" for others" if each["relayed"] else ""),
            " ".join(each["sources"]),
            decimal(size) if size else "?",
            f"{100 * each['verified'] // size} %" if size else "",
            rate_text(each["rate"]),
            time_text(each["left"]),
        )
    for each in found["sending"]:
        with_whom, rate = each["name"] or each["node"][:8], rate_text(each["rate"])
        queued, left = decimal(each["queued"]), time_text(each["left"])
        layout.add_row("out", "", "queued", with_whom, queued, "", rate, left)
    return layout


@click.command(epilog="Example: atoll mesh transfers --data ./node")
@data_option
@json_option
def transfers(data: str | None, *, as_json: bool) -> None:
    """Show what moves where, and how long it will take."""
    with connect(data) as node:
        found = node.call("GET", "/mesh/transfers")
    show(found, transfers_table(found), as_json=as_json, empty="Nothing moves.")


def sources_table(sources: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out who gave how much.  Pure."""
    columns = [Column(title, justify="right") for title in ("Received", "Share", "Rate", "Awaited")]
    layout = Table("Source", "Site", "Says it", *columns, "State", "Trouble")
    for each in sources:
        names = ("redirected", "stalls", "bad", "wasted")
        trouble = [f"{each[name]} {name}" for name in names if each[name]]
        layout.add_row(
            each["name"],
            each["site"],
            each["says"],
            decimal(each["received"]),
            f"{each['share']:.0%}",
            rate_text(each["rate"]),
            decimal(each["awaited"]) if each["awaited"] else "",
            each["state"],
            ", ".join(trouble),
        )
    return layout


def events_table(found: Mapping[str, Any]) -> Table:
    """Lay out what was decided, when and why.  Pure."""
    layout = Table(Column("After", justify="right"), "What", "Peer", "Why")
    if found["forgotten"]:
        layout.add_row("", f"{found['forgotten']} earlier events are kept no more")
    for each in found["events"]:
        times = f" ({each['count']} times)" if each["count"] > 1 else ""
        layout.add_row(f"{each['seconds']:.2f} s", each["what"], each["node"], each["why"] + times)
    return layout


def summary(found: Mapping[str, Any]) -> str:
    """Say in one or two sentences where a transfer stands.  Pure."""
    text = f"{found['blob']}: {found['state']}"
    if found["size"]:
        text += f", {decimal(found['verified'])} of {decimal(found['size'])}"
    text += f" after {time_text(found['seconds'])}"
    if found["rate"] >= 1:
        text += f", at {rate_text(found['rate'])}"
    if found["left"] is not None:
        text += f"; about {time_text(found['left'])} left"
    return f"{text}\nIt waits for {found['waiting']}." if found["waiting"] else text


@click.command(epilog="Example: atoll mesh why --data ./node sha256:2c26b4…")
@data_option
@json_option
@click.argument("digest")
def why(data: str | None, digest: str, *, as_json: bool) -> None:
    """Explain a transfer, under way or ended lately: sources, rates, and the reason for each."""
    with connect(data) as node:
        found = node.call("GET", f"/mesh/transfers/{quote(digest)}")
    if not as_json:
        Console().print(summary(found), highlight=False)
        if found["sources"]:
            Console().print(sources_table(found["sources"]))
    show(found, events_table(found), as_json=as_json, empty="")
