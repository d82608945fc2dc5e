"""Repositories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.filesize import decimal
from rich.table import Column, Table

from cli.connection import connect
from cli.output import show, table


@click.group()
def repo() -> None:
    """Make, list, change and delete repositories."""


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
@click.option("--data", metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_repositories(data: str | None, *, as_json: bool) -> None:
    """List the repositories."""
    with connect(data) as node:
        items = node.call("GET", "/repositories?per_page=1000")["items"]
    show(items, repositories_table(items), as_json=as_json, empty="No repositories yet.")


@repo.command(epilog="Example: atoll repo create --data ./node wheels --format pypi --private")
@click.option("--data", metavar="DIR")
@click.argument("key")
@click.option("--format", "format_key", required=True, help="A format key: pypi, npm, docker …")
@click.option("--public/--private", default=False, help="Whether anybody may read it.")
@click.option("--description", default="")
@click.option("--quota", type=int, help="Bytes it may hold.")
def create(
    data: str | None,
    key: str,
    format_key: str,
    *,
    public: bool,
    description: str,
    quota: int | None,
) -> None:
    """Create a repository and print its URL."""
    body = {
        "key": key,
        "format": format_key,
        "is_public": public,
        "description": description,
        "quota_bytes": quota,
    }
    with connect(data) as node:
        click.echo(node.call("POST", "/repositories", body)["url"])


@repo.command("show", epilog="Example: atoll repo show --data ./node pypi")
@click.option("--data", metavar="DIR")
@click.argument("key")
def show_repository(data: str | None, key: str) -> None:
    """Show one repository as JSON."""
    with connect(data) as node:
        found = node.call("GET", f"/repositories/{key}")
    show(found, Table(), as_json=True)


@repo.command(epilog="Example: atoll repo delete --data ./node old --force")
@click.option("--data", metavar="DIR")
@click.argument("key")
@click.option("--force", is_flag=True, help="Also when it is not empty.")
def delete(data: str | None, key: str, *, force: bool) -> None:
    """Delete a repository."""
    with connect(data) as node:
        node.call("DELETE", f"/repositories/{key}{'?force=true' if force else ''}")
