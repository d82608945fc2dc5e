"""Virtual repositories: their members, and what is looked up outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.table import Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table


def members_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay members out in their order."""
    rows = [
        (
            each["member_repo_key"],
            each["member_repo_type"],
            ", ".join(each["allow"]) or "everything",
            ", ".join(each["deny"]) or "nothing",
        )
        for each in items
    ]
    return table(("Member", "Type", "Asked for", "But for"), rows)


@click.command(epilog="Example: atoll repo members --data ./node all")
@data_option
@json_option
@click.argument("key")
def members(data: str | None, key: str, *, as_json: bool) -> None:
    """List a virtual repository's members, in order."""
    with connect(data) as node:
        items = node.call("GET", f"/repositories/{key}/members")["items"]
    show(items, members_table(items), as_json=as_json)


@click.command("add-member", epilog="Example: atoll repo add-member --data ./node all wheels")
@data_option
@click.option("--place", type=click.IntRange(0), help="Before which other, from 0; else the last.")
@click.option("--allow", metavar="PATTERN", multiple=True, help="Ask it for these names only.")
@click.option("--deny", metavar="PATTERN", multiple=True, help="Never ask it for these names.")
@click.argument("key")
@click.argument("member")
def add_member(
    data: str | None,
    key: str,
    member: str,
    *,
    place: int | None,
    allow: Sequence[str],
    deny: Sequence[str],
) -> None:
    """Add a member to a virtual repository."""
    body = {"member_key": member, "priority": place, "allow": list(allow), "deny": list(deny)}
    with connect(data) as node:
        node.call("POST", f"/repositories/{key}/members", body)


@click.command("remove-member", epilog="Example: atoll repo remove-member --data ./node all old")
@data_option
@click.argument("key")
@click.argument("member")
def remove_member(data: str | None, key: str, member: str) -> None:
    """Remove a member from a virtual repository."""
    with connect(data) as node:
        node.call("DELETE", f"/repositories/{key}/members/{member}")


@click.command("order-members", epilog="Example: atoll repo order-members --data ./node all a b")
@data_option
@click.argument("key")
@click.argument("members", nargs=-1, required=True)
def order_members(data: str | None, key: str, members: Sequence[str]) -> None:
    """Put all members into this order; the first that has a thing gives it."""
    order = [{"member_key": each, "priority": place} for place, each in enumerate(members)]
    with connect(data) as node:
        node.call("PUT", f"/repositories/{key}/members", {"members": order})


@click.command(
    "route-member", epilog="Example: atoll repo route-member --data ./node all up --deny 'corp-*'"
)
@data_option
@click.option("--allow", metavar="PATTERN", multiple=True, help="Ask it for these names only.")
@click.option("--deny", metavar="PATTERN", multiple=True, help="Never ask it for these names.")
@click.argument("key")
@click.argument("member")
def route_member(
    data: str | None, key: str, member: str, *, allow: Sequence[str], deny: Sequence[str]
) -> None:
    """Say which names a member is asked for, in place of what was said before."""
    body = {"allow": list(allow), "deny": list(deny)}
    with connect(data) as node:
        node.call("PUT", f"/repositories/{key}/members/{member}", body)


def _guarded(found: Mapping[str, Any]) -> str:
    if not found["guard"]:
        return "yes"
    readers = found["guard_for"] == "readers"
    return "for callers who may not read their member" if readers else "no, for nobody"


def composition_table(found: Mapping[str, Any]) -> Table:
    """Lay out where publishes go, and what is kept from remote members."""
    rows = [
        ("Publishes go to", found["deploy_repo"] or "nobody"),
        ("Local names are looked up outside", _guarded(found)),
        ("Never looked up outside", ", ".join(found["reserved"]) or "nothing else"),
        ("Always looked up outside", ", ".join(found["unguarded"]) or "nothing"),
    ]
    return table(("", ""), rows)


@click.command(
    epilog="Example: atoll repo compose --data ./node all --deploy wheels --reserve 'corp-*'"
)
@data_option
@json_option
@click.option("--deploy", metavar="MEMBER", help="The member that takes publishes; '' for none.")
@click.option("--guard/--no-guard", default=None, help="Keep local names from remote members.")
@click.option(
    "--guard-for",
    type=click.Choice(["everybody", "readers"]),
    help="Whether private members' names are kept from outside for callers without rights, too.",
)
@click.option("--reserve", metavar="PATTERN", multiple=True, help="Never look these up outside.")
@click.option("--unguard", metavar="PATTERN", multiple=True, help="Do look these up outside.")
@click.argument("key")
def compose(
    data: str | None,
    key: str,
    *,
    as_json: bool,
    deploy: str | None,
    guard: bool | None,
    guard_for: str | None,
    reserve: Sequence[str],
    unguard: Sequence[str],
) -> None:
    """Show, or change, where publishes go and which names are not looked up outside.

    A list of patterns takes the place of the one before; '' alone empties it.
    """
    body: dict[str, object] = {}
    if deploy is not None:
        body["deploy_repo"] = deploy
    if guard is not None:
        body["guard"] = guard
    if guard_for is not None:
        body["guard_for"] = guard_for
    if reserve:
        body["reserved"] = [each for each in reserve if each]
    if unguard:
        body["unguarded"] = [each for each in unguard if each]
    with connect(data) as node:
        found = node.call("PUT" if body else "GET", f"/repositories/{key}/virtual", body or None)
    show(found, composition_table(found), as_json=as_json)


COMMANDS = (members, add_member, remove_member, order_members, route_member, compose)
