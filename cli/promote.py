"""Promotion: versions of a staging repository enter another one, by its rules."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.table import Table

from cli.connection import Node, connect
from cli.options import data_option, json_option
from cli.output import show, table

DAY = 86400.0


def split_version(text: str) -> dict[str, str]:
    """Take PACKAGE@VERSION apart, at the last @.  Pure."""
    package, at, version = text.rpartition("@")
    if not at or not package:
        raise click.BadParameter(f"{text!r} is not PACKAGE@VERSION")
    return {"package": package, "version": version}


def promotions_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay promotions out, the newest first.  Pure."""
    rows = [
        (
            each["id"],
            each["status"],
            f"{each['source_repository']} → {each['target_repository']}",
            ", ".join(f"{p['package']}@{p['version']}" for p in each["packages"]),
            each["requested_by"],
            ", ".join(said["by"] for said in each["approvals"]),
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(each["requested_at"])),
        )
        for each in items
    ]
    return table(("Id", "State", "Where", "What", "Asked by", "Approved by", "Asked (UTC)"), rows)


def rules_table(found: Mapping[str, Any]) -> Table:
    """Lay out what a repository asks of promotions.  Pure."""
    rules = found["rules"]
    rows = [
        ("Sources", ", ".join(rules["sources"]) or "any staging repository"),
        ("Age", f"{rules['min_age'] / DAY:g} days"),
        ("Approvals", rules["approvals"]),
        ("Checks", ", ".join(rules["checks"]) or "none"),
        ("Checked by", ", ".join(rules["checkers"]) or "who may write there"),
        ("Promotions only", "yes" if found["promotion_only"] else "no"),
    ]
    return table(("Rule", found["repository_key"]), rows)


@contextmanager
def acting(data: str | None, token: Path | None) -> Generator[Node]:
    """Reach the node as its operator, or as the user whose token a file holds."""
    with connect(data) as node:
        if token is None:
            yield node
        else:
            secret = token.read_text().strip()
            yield dataclasses.replace(node, secret=secret, scheme="Bearer")


def say(answer: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one promotion and what it lacks."""
    found = answer.get("promotion", answer)
    show(answer if as_json else found, promotions_table([found]), as_json=as_json)
    for each in answer.get("policy_violations", ()) if not as_json else ():
        click.echo(f"waits for {each['rule']}: {each['message']}")


notes_option = click.option("--notes", default="", help="Why; kept with the promotion.")
token_option = click.option(
    "--token",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the API token of the user who acts; without it, the operator does.",
)


@click.group()
def promote() -> None:
    """Promote versions from a staging repository, by the target's rules."""


@promote.command(
    epilog="Example: atoll promote ask pypi-staging demo@1.0 demo-cli@1.0 --to pypi --data ./node"
)
@data_option
@token_option
@json_option
@notes_option
@click.argument("source")
@click.argument("versions", metavar="PACKAGE@VERSION...", nargs=-1, required=True)
@click.option("--to", "target", default="", help="Where to; else the source's release target.")
def ask(
    data: str | None,
    token: Path | None,
    notes: str,
    source: str,
    versions: tuple[str, ...],
    target: str,
    *,
    as_json: bool,
) -> None:
    """Promote versions, all or none, or ask for it where something is lacking.

    An image's version is a tag or digest, a generic file's its name: folder@file.
    """
    body = {
        "target_repository": target,
        "packages": [split_version(each) for each in versions],
        "notes": notes,
    }
    with acting(data, token) as node:
        found = node.call("POST", f"/promotion/repositories/{quote(source)}/promote", body)
    say(found, as_json=as_json)


@promote.command("list", epilog="Example: atoll promote list --state pending --data ./node")
@data_option
@token_option
@json_option
@click.option("--repo", metavar="KEY", default="", help="Only into or out of one repository.")
@click.option(
    "--state", type=click.Choice(["pending", "promoted", "rejected", "rolled_back"]), default=None
)
@click.option("--limit", default=50, help="At most so many, the newest.")
def list_promotions(
    data: str | None, token: Path | None, repo: str, state: str | None, limit: int, *, as_json: bool
) -> None:
    """List promotions and requests, the newest first."""
    history = f"/promotion/repositories/{quote(repo)}/promotion-history"
    path = history if repo else "/approval/history"
    with acting(data, token) as node:
        found = node.call("GET", f"{path}?limit={limit}&status={state or ''}")["items"]
    show(found, promotions_table(found), as_json=as_json, empty="No promotions yet.")


@promote.command("show", epilog="Example: atoll promote show 0199f3a1-7c2e --data ./node")
@data_option
@token_option
@json_option
@click.argument("promotion")
def show_promotion(data: str | None, token: Path | None, promotion: str, *, as_json: bool) -> None:
    """Show one promotion and what it lacks."""
    with acting(data, token) as node:
        found = node.call("GET", f"/approval/{quote(promotion)}")
    say(found, as_json=as_json)


def _decide(what: str, data: str | None, token: Path | None, promotion: str, notes: str) -> Any:
    with acting(data, token) as node:
        return node.call("POST", f"/approval/{quote(promotion)}/{what}", {"notes": notes})


@promote.command(epilog="Example: atoll promote approve 0199f3a1-7c2e --token ./me.token")
@data_option
@token_option
@json_option
@notes_option
@click.argument("promotion")
def approve(
    data: str | None, token: Path | None, notes: str, promotion: str, *, as_json: bool
) -> None:
    """Approve a request; the last approval that is needed carries it out."""
    say(_decide("approve", data, token, promotion, notes), as_json=as_json)


@promote.command(epilog="Example: atoll promote reject 0199f3a1-7c2e --notes 'wrong licence'")
@data_option
@token_option
@json_option
@notes_option
@click.argument("promotion")
def reject(
    data: str | None, token: Path | None, notes: str, promotion: str, *, as_json: bool
) -> None:
    """Reject a request, or take your own back."""
    say(_decide("reject", data, token, promotion, notes), as_json=as_json)


@promote.command(epilog="Example: atoll promote run 0199f3a1-7c2e --data ./node")
@data_option
@token_option
@json_option
@click.argument("promotion")
def run(data: str | None, token: Path | None, promotion: str, *, as_json: bool) -> None:
    """Carry out a request whose rules hold by now."""
    say(_decide("run", data, token, promotion, ""), as_json=as_json)


@promote.command(epilog="Example: atoll promote rollback 0199f3a1-7c2e --notes broken")
@data_option
@token_option
@json_option
@notes_option
@click.argument("promotion")
def rollback(
    data: str | None, token: Path | None, notes: str, promotion: str, *, as_json: bool
) -> None:
    """Remove what a promotion brought, and put back the tags that it moved."""
    say(_decide("rollback", data, token, promotion, notes), as_json=as_json)


@promote.command(epilog="Example: atoll promote check pypi-staging demo@1.0 scan --passed")
@data_option
@token_option
@notes_option
@click.argument("source")
@click.argument("version", metavar="PACKAGE@VERSION")
@click.argument("name")
@click.option("--passed/--failed", required=True, default=None)
def check(
    data: str | None,
    token: Path | None,
    notes: str,
    source: str,
    version: str,
    name: str,
    *,
    passed: bool,
) -> None:
    """Report that a staged version passed a check, or failed it."""
    body = {**split_version(version), "check": name, "passed": passed, "notes": notes}
    with acting(data, token) as node:
        node.call("POST", f"/promotion/repositories/{quote(source)}/checks", body)


@promote.command(
    epilog="Example: atoll promote rules pypi --approvals 2 --check scan --promotion-only"
)
@data_option
@token_option
@json_option
@click.argument("key")
@click.option("--source", "sources", multiple=True, help="Key or pattern; repeat it for more.")
@click.option("--min-days", type=float, help="Days since the publish, at least.")
@click.option("--approvals", type=int, help="Users who must agree.")
@click.option("--check", "checks", multiple=True, help="Check that must pass; repeat for more.")
@click.option("--checker", "checkers", multiple=True, help="User or pattern who may report them.")
@click.option("--promotion-only/--direct", default=None, help="Whether nothing else may publish.")
def rules(
    data: str | None,
    token: Path | None,
    key: str,
    min_days: float | None,
    approvals: int | None,
    *,
    promotion_only: bool | None,
    as_json: bool,
    **lists: tuple[str, ...],
) -> None:
    """Show a repository's rules; what is given is set, the rest stays."""
    path = f"/promotion/repositories/{quote(key)}/rules"
    with acting(data, token) as node:
        found = node.call("GET", path)
        body = {**found["rules"], **{name: list(v) for name, v in lists.items() if v}}
        if min_days is not None:
            body["min_age"] = min_days * DAY
        if approvals is not None:
            body["approvals"] = approvals
        if promotion_only is not None:
            body["promotion_only"] = promotion_only
        if {**body, "promotion_only": promotion_only} != {**found["rules"], "promotion_only": None}:
            found = node.call("PUT", path, body)
    show(found, rules_table(found), as_json=as_json)
