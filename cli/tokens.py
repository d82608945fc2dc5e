"""API tokens."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from cli.connection import connect
from cli.options import data_option, json_option


@click.group()
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command(epilog="Example: atoll token create --data ./node --name ci --scope write")
@data_option
@click.option("--name", required=True, help="What the token is for.")
@click.option("--scope", "scopes", multiple=True, required=True, help="read, write, delete, admin.")
@click.option("--user", default="", help="Whose token; the administrator's by default.")
@click.option("--repository", "repositories", multiple=True, help="Limit to a key or pattern.")
@click.option("--days", type=int, help="Days until it expires; never by default.")
def create(
    data: str | None,
    name: str,
    scopes: tuple[str, ...],
    user: str,
    repositories: tuple[str, ...],
    days: int | None,
) -> None:
    """Print a new token, usable as the password of any user name."""
    body = {
        "name": name,
        "scopes": list(scopes),
        "username": user,
        "repositories": list(repositories),
        "expires_in_days": days,
    }
    with connect(data) as node:
        click.echo(node.call("POST", "/auth/tokens", body)["token"])


@token.command("list", epilog="Example: atoll token list --data ./node --json")
@data_option
@json_option
def list_tokens(data: str | None, *, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    with connect(data) as node:
        items = node.call("GET", "/auth/tokens")["items"]
    if as_json:
        click.echo(json.dumps(items))
        return
    table = Table("Id", "Name", "User", "Scopes", "Repositories")
    for each in items:
        table.add_row(
            each["id"],
            each["name"],
            each["username"],
            " ".join(each["scopes"]),
            " ".join(each["repositories"]) or "all",
        )
    Console().print(table)


@token.command(epilog="Example: atoll token revoke --data ./node 0f3c…")
@data_option
@click.argument("id")
def revoke(data: str | None, id: str) -> None:  # noqa: A002  the API's word
    """Revoke a token, everywhere this is heard."""
    with connect(data) as node:
        node.call("DELETE", f"/auth/tokens/{id}")
