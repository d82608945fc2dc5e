"""What concurrent writes left to be decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click
from rich.filesize import decimal
from rich.table import Table

from cli.connection import Node, connect
from cli.options import data_option, json_option
from cli.output import show, table


@click.command(epilog="Example: atoll mesh conflicts --data ./node --repo pypi --json")
@data_option
@click.option("--repo", help="Only this repository.")
@click.option("--pending", is_flag=True, help="List what waits for its home's word, too.")
@json_option
def conflicts(data: str | None, repo: str | None, *, pending: bool, as_json: bool) -> None:
    """List files with rival bytes, and tags that were moved on two sides of a partition."""
    found: dict[str, dict[str, Any]] = {}
    with connect(data) as node:
        for each in node.call("GET", "/conflicts")["items"]:
            key = each["repository_key"]
            if repo is not None and key != repo:
                continue
            place = f"/repositories/{quote(key)}"
            found[key] = {
                "files": list(pages(node, f"{place}/conflicts")) if each["files"] else [],
                "tags": list(pages(node, f"{place}/conflicts/tags")) if each["pointers"] else [],
                "pending": each["pending"],
            }
            if pending:
                found[key]["pending"] = list(pages(node, f"{place}/pending"))
    show(found, conflicts_table(found), as_json=as_json, empty="No conflicts.")


def pages(node: Node, place: str) -> Iterator[Mapping[str, Any]]:
    """Every item of a listing, page by page."""
    after = ""
    while True:
        found = node.call("GET", f"{place}?limit=500&after={quote(after)}")
        yield from found["items"]
        if found["next"] is None:
            return
        after = found["next"]


def conflicts_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lay conflicts out, what clients get now first.  Pure."""
    rows: list[Sequence[object]] = []
    for key, each in sorted(found.items()):
        for file in each["files"]:
            rivals = sorted(file["rivals"], key=lambda r: (not r["winner"], r["published_at"]))
            for number, rival in enumerate(rivals):
                what = "served" if rival["winner"] else "deleted" if rival["deleted"] else "rival"
                author, site = rival["author"][:8], rival["site"] or "?"
                by = f"{author} at {site}, {decimal(rival['size_bytes'])}"
                rows.append((key, "" if number else file["path"], what, rival["digest"], by))
        for tag in each["tags"]:
            name = f"{tag['name']}:{tag['tag']}"
            rows.append((key, name, "served", tag["value"], ""))
            rows += [(key, "", "rival", value, "") for value in tag["siblings"]]
        if isinstance(each["pending"], list):
            rows += [
                (key, file["path"], "pending", file["digest"], file["author"][:8])
                for file in each["pending"]
            ]
        elif each["pending"]:
            rows.append((key, "", "pending", f"{each['pending']} files wait for their home", ""))
    return table(("Repository", "File or tag", "State", "Content", "By"), rows)


@click.command(epilog="Example: atoll mesh resolve --data ./node pypi a/a-1.whl sha256:2c26b4…")
@data_option
@click.option("--tag", is_flag=True, help="PACKAGE:TAG and its value, instead of a file's path.")
@click.argument("repo")
@click.argument("what", metavar="PATH")
@click.argument("content", metavar="DIGEST")
def resolve(data: str | None, repo: str, what: str, content: str, *, tag: bool) -> None:
    """Decide a conflict for the whole mesh: PATH has the bytes of DIGEST."""
    body = {"path": what, "digest": content}
    if tag:
        package, _, name = what.rpartition(":")
        body = {"package": package, "tag": name, "value": content}
    with connect(data) as node:
        node.call("POST", f"/repositories/{quote(repo)}/conflicts/resolve", body)
