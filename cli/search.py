"""Search and browse."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import click
from rich.filesize import decimal
from rich.table import Column, Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table

SHOWN = 60  # characters of a description
POLL = 0.5  # seconds


class WithDefault(click.Group):
    """A group that looks for whatever is not the name of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["find", *args]
        return super().parse_args(ctx, args)


@click.group(cls=WithDefault, epilog="Example: atoll search --data ./node 'http client' --facets")
def search() -> None:
    """Search packages, versions and files; `atoll search find` for one of these words."""


def hits_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay hits out, best first."""
    return table(
        ("Repository", "Package", "Version", "License", "Size", "Description"),
        [
            (
                each["repository_key"],
                each["path"] or each["package"],
                each["version"][:20],
                each["license"],
                decimal(each["size_bytes"]),
                each["description"][:SHOWN],
            )
            for each in items
        ],
    )


def facets_table(facets: Mapping[str, Mapping[str, int]]) -> Table:
    """Lay out how the hits divide."""
    rows = [(name, value, n) for name, values in facets.items() for value, n in values.items()]
    return table(("Facet", "Value", Column("Hits", justify="right")), rows)


@search.command(epilog="Example: atoll search find --data ./node name:left license:mit")
@data_option
@click.option("--repository", metavar="KEY", default="", help="Keys or patterns, with commas.")
@click.option("--format", "form", metavar="KEY", default="")
@click.option("--versions", is_flag=True, help="Every version, not only the newest ones.")
@click.option("--limit", type=int, default=20)
@click.option("--facets", is_flag=True, help="Also count hits by repository, format and license.")
@json_option
@click.argument("text", nargs=-1)
def find(
    data: str | None,
    text: Sequence[str],
    *,
    repository: str,
    form: str,
    versions: bool,
    limit: int,
    facets: bool,
    as_json: bool,
) -> None:
    """Find by words, name:, file:, version:, license:, tag:, or by a digest of any kind."""
    asked = {
        "q": " ".join(text),
        "repository": repository,
        "format": form,
        "versions": "all" if versions else "",
        "limit": str(limit),
    }
    with connect(data) as node:
        found = node.call("GET", f"/search/advanced?{urlencode(asked)}")
    if as_json:
        show(found, Table(), as_json=True)
        return
    show(found["items"], hits_table(found["items"]), as_json=False, empty="Nothing found.")
    if facets and found["facets"]:
        show(found["facets"], facets_table(found["facets"]), as_json=False)
    if found["total"] > len(found["items"]):
        more = "" if found["exact"] else "at least "
        click.echo(f"{len(found['items'])} of {more}{found['total']}")


def status_table(found: Mapping[str, Any]) -> Table:
    """Lay out how far the index is."""
    rows = [
        ("Documents", found["documents"]),
        ("Changes to come", found["pending"]),
        ("Rebuilding", f"yes, {found['written']} so far" if found["rebuilding"] else "no"),
        ("Meilisearch", found["meilisearch"]),
    ]
    return table(("", ""), rows)


@search.command(epilog="Example: atoll search status --data ./node")
@data_option
@json_option
def status(data: str | None, *, as_json: bool) -> None:
    """Show how far the index is."""
    with connect(data) as node:
        found = node.call("GET", "/admin/search")
    show(found, status_table(found), as_json=as_json)


@search.command(epilog="Example: atoll search rebuild --data ./node")
@data_option
@click.option("--wait/--no-wait", default=True, help="Wait until it is done.")
@json_option
def rebuild(data: str | None, *, wait: bool, as_json: bool) -> None:
    """Make the running node's index anew; the old one answers meanwhile."""
    with connect(data) as node:
        found = node.call("POST", "/admin/reindex")
        while wait and found["rebuilding"]:
            time.sleep(POLL)
            found = node.call("GET", "/admin/search")
    show(found, status_table(found), as_json=as_json)


def tree_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """Lay a folder out."""
    return table(
        ("Name", Column("Size", justify="right"), "Package", "Version"),
        [
            (
                f"{each['name']}/" if each["kind"] == "folder" else each["name"],
                "" if each["size_bytes"] is None else decimal(each["size_bytes"]),
                each["package"] or "",
                (each["version"] or "")[:20],
            )
            for each in nodes
        ],
    )


@click.command(epilog="Example: atoll browse --data ./node pypi demo")
@data_option
@click.option("--after", metavar="NAME", default="", help="Go on after this entry.")
@click.option("--limit", type=int, default=200)
@click.option("--package", is_flag=True, help="PATH is a package: show its versions and tags.")
@json_option
@click.argument("key")
@click.argument("path", default="")
def browse(
    data: str | None,
    key: str,
    path: str,
    *,
    after: str,
    limit: int,
    package: bool,
    as_json: bool,
) -> None:
    """Show what lies in a folder of the repository KEY, or a package of it."""
    asked = urlencode({"after": after, "limit": limit} | ({} if package else {"path": path}))
    with connect(data) as node:
        if package:
            found = node.call(
                "GET", f"/repositories/{key}/packages/{quote(path, safe='/@')}?{asked}"
            )
        else:
            found = node.call("GET", f"/repositories/{key}/tree?{asked}")
    layout = package_table(found) if package else tree_table(found["nodes"])
    show(found, layout, as_json=as_json, empty="Nothing here.")
    if found["next"] and not as_json:
        click.echo(f"more with --after {found['next']!r}")


def package_table(found: Mapping[str, Any]) -> Table:
    """Lay a package's versions out, with the tags that name them."""
    tags: dict[str, list[str]] = {}
    for each in found["tags"]:
        tags.setdefault(each["value"], []).append(each["name"])
    marks: dict[str, list[str]] = {}
    for each in found["marks"]:
        marks.setdefault(each["version"], []).append(each["name"])
    files, downloads = (Column(title, justify="right") for title in ("Files", "Downloads"))
    return table(
        ("Version", files, "Size", downloads, "Tags", "Marks"),
        [
            (
                each["version"],
                each["files"],
                decimal(each["size_bytes"]),
                each["downloads"],
                " ".join(tags.get(each["version"], ())),
                " ".join(marks.get(each["version"], ())),
            )
            for each in found["versions"]
        ],
    )
