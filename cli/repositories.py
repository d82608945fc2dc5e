"""Repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click
from rich.filesize import decimal
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table
from cli.virtual import COMMANDS

TYPES = ["local", "remote", "virtual", "staging"]


@click.group()
def repo() -> None:
    """Make, list, change and delete repositories."""


for each_command in COMMANDS:
    repo.add_command(each_command)


def repositories_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay repositories out by key."""
    columns = ("Key", "Format", "Type", "Public", Column("Files", justify="right"), "Size", "URL")
    return table(
        columns,
        [
            (
                each["key"],
                each["format"],
                each["repo_type"],
                "yes" if each["is_public"] else "no",
                each["artifact_count"],
                decimal(each["storage_used_bytes"]),
                each["url"],
            )
            for each in items
        ],
    )


@repo.command("list", epilog="Example: atoll repo list --data ./node")
@data_option
@json_option
def list_repositories(data: str | None, *, as_json: bool) -> None:
    """List the repositories."""
    with connect(data) as node:
        items = node.call("GET", "/repositories?per_page=1000")["items"]
    show(items, repositories_table(items), as_json=as_json, empty="No repositories yet.")


@repo.command(epilog="Example: atoll repo create --data ./node wheels --format pypi --private")
@data_option
@click.argument("key")
@click.option("--format", "format_key", required=True, help="A format key: pypi, npm, docker …")
@click.option("--public/--private", default=False, help="Whether anybody may read it.")
@click.option("--description", default="")
@click.option("--quota", type=int, help="Bytes it may hold.")
@click.option("--type", "repo_type", type=click.Choice(TYPES), default="local")
@click.option("--upstream", metavar="URL", default="", help="What a remote one passes on.")
@click.option("--upstream-user", metavar="NAME", default="")
@click.option("--upstream-secret", type=click.File("r"), help="Password or token; - reads it.")
@click.option(
    "--member", "members", metavar="KEY", multiple=True, help="Of a virtual one, in order."
)
@click.option("--deploy", metavar="KEY", default="", help="The member that takes publishes.")
def create(
    data: str | None,
    key: str,
    format_key: str,
    *,
    public: bool,
    description: str,
    quota: int | None,
    repo_type: str,
    upstream: str,
    upstream_user: str,
    upstream_secret: TextIO | None,
    members: Sequence[str],
    deploy: str,
) -> None:
    """Create a repository and print its URL.

    With --type remote it caches what is at --upstream: its secret is a password if there is a
    user, else a bearer token.  With --type virtual it answers for its --members together.
    """
    secret = upstream_secret.readline().strip() if upstream_secret else ""
    kind = "basic" if upstream_user else "bearer" if secret else "none"
    body = {
        "key": key,
        "format": format_key,
        "is_public": public,
        "description": description,
        "quota_bytes": quota,
        "repo_type": repo_type,
        "upstream_url": upstream,
        "upstream_auth_type": kind,
        "upstream_username": upstream_user,
        "upstream_password": secret,
        "member_repos": [{"repo_key": each} for each in members],
        "deploy_repo": deploy,
    }
    with connect(data) as node:
        click.echo(node.call("POST", "/repositories", body)["url"])


@repo.command("show", epilog="Example: atoll repo show --data ./node pypi")
@data_option
@click.argument("key")
def show_repository(data: str | None, key: str) -> None:
    """Show one repository as JSON."""
    with connect(data) as node:
        found = node.call("GET", f"/repositories/{key}")
    show(found, Table(), as_json=True)


@repo.command(epilog="Example: atoll repo delete --data ./node old --force")
@data_option
@click.argument("key")
@click.option("--force", is_flag=True, help="Also when it is not empty.")
def delete(data: str | None, key: str, *, force: bool) -> None:
    """Delete a repository."""
    with connect(data) as node:
        node.call("DELETE", f"/repositories/{key}{'?force=true' if force else ''}")


def cache_table(found: Mapping[str, Any]) -> Table:
    """Lay out what is kept of an upstream, and how asking it has gone."""
    lookups = ", ".join(f"{number} {name}" for name, number in found["lookups"].items() if number)
    rows = [
        ("Upstream", found["upstream_url"]),
        ("Circuit", "offline" if found["offline"] else found["circuit"]),
        ("Kept", f"{found['files']} files, {decimal(found['size_bytes'])}"),
        ("Requests", lookups or "none yet"),
        ("Fetches", f"{found['requests']}, {found['errors']} failed, {found['under_way']} now"),
        ("Fetched", decimal(found["bytes_fetched"])),
    ]
    return table(("", ""), rows)


@repo.command(epilog="Example: atoll repo cache --data ./node pypi-org")
@data_option
@json_option
@click.argument("key")
def cache(data: str | None, key: str, *, as_json: bool) -> None:
    """Show what a remote repository keeps, and how its upstream answers."""
    with connect(data) as node:
        found = node.call("GET", f"/repositories/{key}/cache")
    show(found, cache_table(found), as_json=as_json)


@repo.command(epilog="Example: atoll repo invalidate --data ./node pypi-org '.simple/demo'")
@data_option
@click.argument("key")
@click.argument("pattern", default="*")
def invalidate(data: str | None, key: str, pattern: str) -> None:
    """Have upstream asked again for documents whose path matches a pattern."""
    with connect(data) as node:
        body = {"path": pattern}
        found = node.call("POST", f"/repositories/{key}/cache/invalidate", body)
    click.echo(f"{found['invalidated']} will be asked for again")


@repo.command("test-upstream", epilog="Example: atoll repo test-upstream --data ./node pypi-org")
@data_option
@json_option
@click.argument("key")
def test_upstream(data: str | None, key: str, *, as_json: bool) -> None:
    """Ask a remote repository's upstream once; fails if it does not answer."""
    with connect(data) as node:
        found = node.call("POST", f"/repositories/{key}/test-upstream")
    rows = [(found["message"], f"{found['seconds'] * 1000:.0f} ms")]
    show(found, table(("Upstream", "Took"), rows), as_json=as_json)
    if not found["reachable"]:
        raise SystemExit(1)
