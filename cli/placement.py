"""Placement: where blobs shall be, and how far every member is from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click
from rich.filesize import decimal
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table

DAY = 86400.0


def _amount(pair: Sequence[int]) -> str:
    return f"{pair[0]} ({decimal(int(pair[1]))})" if pair[0] else "0"


def eta(seconds: float | None, missing: int) -> str:
    """Say when it would be done."""
    if not missing:
        return "done"
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def distance_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out each member's distance, a line a rule; the absent are dimmed.  Pure."""
    numbers = ("Wanted", "Held", "Missing", "Surplus", "ETA")
    found = Table("Site", "Node", "Name", "Rule", *(Column(n, justify="right") for n in numbers))
    for node in sorted(nodes, key=lambda n: (n["site"], n["node"])):
        who = (node["site"], node["node"][:8], node["name"])
        style = "" if node["present"] else "dim"
        said = node["distance"]
        if said is None:
            found.add_row(*who, "not heard yet", style="dim")
            continue
        for rule in said["rules"]:
            missing = rule["missing"]
            share = said["eta"] and said["eta"] * missing[1] / max(1, said["missing"][1])
            found.add_row(
                *who,
                rule["rule"],
                *(_amount(rule[kind]) for kind in ("wanted", "held", "missing", "surplus")),
                eta(share, missing[0]),
                style=style,
            )
            who = ("", "", "")
        if said["cached"][0] or not said["rules"]:
            found.add_row(*who, "(on demand)", "", _amount(said["cached"]), style=style)
    return found


def files_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out where each file belongs and who holds it.  Pure."""
    rows = [
        (
            each["path"],
            decimal(each["size_bytes"]),
            each["rule"] or "(on demand)",
            " ".join(node[:8] for node in each["nodes"]),
            " ".join(node[:8] for node in each["holders"]),
        )
        for each in items
    ]
    return table(("Path", "Size", "Rule", "Belongs to", "Held by"), rows)


def rules_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out rules in the order in which they are asked.  Pure."""
    names = ("repositories", "labels", "formats", "packages")
    bounds = ("size_min", "size_max", "older_than", "younger_than", "reads_min")
    rows = []
    for each in items:
        conditions = [f"{name} {', '.join(each[name])}" for name in names if each[name]]
        conditions += [f"{name} {each[name]:g}" for name in bounds if each[name]]
        rows.append((each["order"], each["id"], each["target"], "; ".join(conditions) or "all"))
    return table(("Order", "Id", "Target", "Where"), rows)


@click.group(
    invoke_without_command=True, epilog="Example: atoll mesh placement --repo pypi --data ./node"
)
@data_option
@click.option("--repo", metavar="KEY", help="Where the files of one repository belong.")
@click.option("--prefix", default="", help="With --repo: only paths that begin so.")
@json_option
@click.pass_context
def placement(
    ctx: click.Context, data: str | None, repo: str | None, prefix: str, *, as_json: bool
) -> None:
    """Show how far each member is from holding what it should, and change what it should."""
    if ctx.invoked_subcommand is not None:
        return
    with connect(data) as node:
        if repo is None:
            found = node.call("GET", "/mesh/placement")["nodes"]
            layout = distance_table(found)
        else:
            path = f"/repositories/{quote(repo)}/placement?limit=1000&prefix={quote(prefix)}"
            found = node.call("GET", path)["items"]
            layout = files_table(found)
    show(found, layout, as_json=as_json)


@placement.command(epilog="Example: atoll mesh placement rules --data ./node")
@data_option
@json_option
def rules(data: str | None, *, as_json: bool) -> None:
    """List the rules in the order in which they are asked; the first that matches decides."""
    with connect(data) as node:
        found = node.call("GET", "/mesh/placement/rules")["items"]
    show(found, rules_table(found), as_json=as_json, empty="No rules: blobs follow demand.")


@placement.command(
    "set", epilog="Example: atoll mesh placement set wheels sites:harbour,ship --format pypi"
)
@data_option
@click.argument("rule_id", metavar="ID")
@click.argument("target")
@click.option("--order", default=0, help="Smaller is asked earlier.")
@click.option("--repository", "repositories", multiple=True, help="Key or pattern.")
@click.option("--label", "labels", multiple=True, help="key or key=value of the repository.")
@click.option("--format", "formats", multiple=True, help="Format key.")
@click.option("--package", "packages", multiple=True, help="Name or pattern.")
@click.option("--size-min", default=0, help="Bytes.")
@click.option("--size-max", default=0, help="Bytes; 0 for no bound.")
@click.option("--older-days", default=0.0, help="Days since the publish, at least.")
@click.option("--younger-days", default=0.0, help="Days since the publish, less than.")
@click.option("--reads", default=0, help="Reads at the node in about a day, at least.")
def set_rule(
    data: str | None, rule_id: str, target: str, older_days: float, younger_days: float, **rest: Any
) -> None:
    """Make or replace a rule.

    TARGET is everywhere, on-demand, replicas:N, sites:A,B or sites:A,B/N (N copies at each).
    """
    rest["reads_min"] = rest.pop("reads")
    ages = {"older_than": older_days * DAY, "younger_than": younger_days * DAY}
    with connect(data) as node:
        node.call("PUT", "/mesh/placement/rules", {"id": rule_id, "target": target, **rest, **ages})


@placement.command("rm", epilog="Example: atoll mesh placement rm wheels --data ./node")
@data_option
@click.argument("rule_id", metavar="ID")
def remove_rule(data: str | None, rule_id: str) -> None:
    """Remove a rule."""
    with connect(data) as node:
        node.call("DELETE", f"/mesh/placement/rules/{quote(rule_id)}")


@placement.command(epilog="Example: atoll mesh placement carry ship1 'pypi*' npm --data ./node")
@data_option
@click.argument("node_name", metavar="NODE")
@click.argument("repositories", nargs=-1)
def carry(data: str | None, node_name: str, repositories: tuple[str, ...]) -> None:
    """Say which repositories a member carries; without any, it carries all."""
    with connect(data) as node:
        body = {"repositories": list(repositories)}
        node.call("PUT", f"/mesh/carriage/{quote(node_name)}", body)
