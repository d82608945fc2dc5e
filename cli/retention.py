"""Retention policies and garbage collection."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table
from store.errors import RegistryError

DAY = 86400.0
LISTED_MAX = 1000  # versions that a plan shows
CUT = "the node ended before it was through"


def policies_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay policies out.  Pure."""
    rows = []
    for each in items:
        policy = each["policy"]
        criteria = [
            f"{text} {policy[name] / DAY:g} days"
            for name, text in (("max_age", "older than"), ("unused_for", "unused for"))
            if policy[name]
        ]
        criteria += [f"beyond the newest {policy['keep_last']}"] if policy["keep_last"] else []
        below = policy["downloads_below"]
        criteria += [f"fewer than {below} downloads"] if below else []
        which = ", ".join(policy["include"]) or "all"
        which += f" but {', '.join(policy['exclude'])}" if policy["exclude"] else ""
        which += ", pre-releases" if policy["prereleases"] else ""
        state = "off" if each["disabled"] else "keeps" if policy["keep"] else "removes"
        rows.append(
            (each["id"], state, ", ".join(policy["repositories"]), which, "; ".join(criteria))
        )
    return table(("Id", "State", "Repositories", "Versions", "Criteria"), rows)


def plan_table(items: Sequence[Mapping[str, Any]]) -> Table:
    """Lay out what would go and why; what is saved is dimmed.  Pure."""
    found = Table("Repository", "Version", "Size", "Published (UTC)", "Policy", "Why")
    for each in items:
        names = f" ({', '.join(each['names'])})" if each["names"] else ""
        found.add_row(
            each["repository_key"],
            f"{each['package']}@{each['version']}{names}",
            decimal(each["size_bytes"]),
            time.strftime("%Y-%m-%d", time.gmtime(each["published_at"])),
            each["policy"],
            f"stays: {each['kept']}" if each["kept"] else each["why"],
            style="dim" if each["kept"] else "",
        )
    return found


@click.group()
def retention() -> None:
    """Say which versions may go, see what would, and let them go."""


@retention.command("show", epilog="Example: atoll retention show --data ./node")
@data_option
@json_option
def show_policies(data: str | None, *, as_json: bool) -> None:
    """List the policies."""
    with connect(data) as node:
        found = node.call("GET", "/admin/lifecycle")["items"]
    show(found, policies_table(found), as_json=as_json, empty="No policies: everything stays.")


@retention.command(
    "set",
    epilog="Example: atoll retention set nightlies 'docker*' --include '*@nightly-*' --keep-last 5",
)
@data_option
@click.argument("policy_id", metavar="ID")
@click.argument("repositories", nargs=-1, required=True)
@click.option("--include", multiple=True, help="Pattern of package@version, or of package@tag.")
@click.option("--exclude", multiple=True, help="Pattern of what the policy does not speak of.")
@click.option("--prereleases", is_flag=True, help="Only pre-releases and snapshots.")
@click.option("--keep", is_flag=True, help="Save what matches from all other policies.")
@click.option("--max-days", default=0.0, help="Days since the publish.")
@click.option("--keep-last", default=0, help="The newest versions of each package stay.")
@click.option("--unused-days", default=0.0, help="Days since anybody read it.")
@click.option(
    "--downloads-below",
    default=0,
    help="Fewer downloads on all nodes; needs a day or more of age or of no use.",
)
@click.option("--placed", is_flag=True, help="Also what a placement rule keeps somewhere.")
@click.option("--off", "disabled", is_flag=True, help="Keep the policy, but do not apply it.")
def set_policy(
    data: str | None, policy_id: str, max_days: float, unused_days: float, **rest: Any
) -> None:
    """Make or replace a policy; all criteria that are given must hold for a version to go."""
    ages = {"max_age": max_days * DAY, "unused_for": unused_days * DAY}
    with connect(data) as node:
        node.call("POST", "/admin/lifecycle", {"id": policy_id, **rest, **ages})


@retention.command("rm", epilog="Example: atoll retention rm nightlies --data ./node")
@data_option
@click.argument("policy_id", metavar="ID")
def remove_policy(data: str | None, policy_id: str) -> None:
    """Remove a policy."""
    with connect(data) as node:
        node.call("DELETE", f"/admin/lifecycle/{quote(policy_id)}")


@retention.command(epilog="Example: atoll retention plan --policy nightlies")
@data_option
@json_option
@click.option("--policy", default="", help="Only what this policy removes.")
@click.option("--lines", is_flag=True, help="List all of it, a JSON object a line; the sums last.")
def plan(data: str | None, policy: str, *, as_json: bool, lines: bool) -> None:
    """List what would go, and why; nothing goes.  Shows 1,000 versions, and counts all."""
    items: list[Any] = []
    sums: dict[str, Any] = {}
    wish = {"policy": policy, "listed": None if lines else LISTED_MAX}
    with connect(data) as node, waiting() as status:
        status("looking at every version")
        for line in node.lines("POST", "/admin/lifecycle/plan", wish):
            event = json.loads(line)
            if lines:
                click.echo(line.decode().rstrip())
            elif event["type"] == "planned":
                items.append(event)
            if event["type"] == "sums":
                sums = event
    if not sums:
        raise RegistryError(CUT)
    if lines:
        return
    found = {**{name: value for name, value in sums.items() if name != "type"}, "items": items}
    show(found, plan_table(items), as_json=as_json, empty="Nothing would go.")
    if not as_json and items:
        size = decimal(found["size_bytes"])
        click.echo(f"{found['versions']} versions, {size}, would go; {found['kept']} are saved")
        if len(items) == LISTED_MAX:
            click.echo(f"These are the first {LISTED_MAX}: --lines lists all of them.")


@retention.command("apply", epilog="Example: atoll retention apply --policy nightlies")
@data_option
@json_option
@click.option("--policy", default="", help="Only what this policy removes.")
def apply_policies(data: str | None, policy: str, *, as_json: bool) -> None:
    """Remove what the plan says; each file can be restored for 30 days.

    Interrupted, it stops; what has gone until then is gone.
    """
    found: dict[str, Any] = {}
    with connect(data) as node, waiting() as status:
        for line in node.lines("POST", "/admin/lifecycle/apply", {"policy": policy}):
            event = json.loads(line)
            if event["type"] == "applied":
                found = event
            else:
                status(f"{event['removed']} versions removed")
    if not found:
        raise RegistryError(CUT)
    removed = f"{found['removed']} versions, {decimal(found['size_bytes'])}"
    rows = [(removed, found["kept"], found["missed"])]
    show(found, table(("Removed", "Saved", "Changed meanwhile"), rows), as_json=as_json)


@contextmanager
def waiting() -> Generator[Callable[[str], None]]:
    """Tell people how far long work is, on standard error; nothing to anything else."""
    console = Console(stderr=True)
    with console.status("") as status:
        yield status.update if sys.stderr.isatty() else lambda _: None


@retention.command(epilog="Example: atoll retention restore pypi demo/demo-1.0-py3-none-any.whl")
@data_option
@click.argument("key")
@click.argument("path")
def restore(data: str | None, key: str, path: str) -> None:
    """Bring a deleted file back."""
    with connect(data) as node:
        node.call("POST", f"/repositories/{quote(key)}/artifacts/{quote(path)}/restore")


@retention.command(epilog="Example: atoll retention gc --dry-run --data ./node")
@data_option
@json_option
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(data: str | None, *, dry_run: bool, as_json: bool) -> None:
    """Remove blobs from this node that nothing names any more."""
    with connect(data) as node:
        found = node.call("POST", "/admin/storage-gc", {"dry_run": dry_run})
    rows = [
        (
            f"{found['blobs']} ({decimal(found['bytes'])})",
            f"{found['seen']} ({decimal(found['seen_bytes'])})",
            found["kept_young"],
            found["kept_in_use"],
        )
    ]
    title = "Would go" if dry_run else "Removed"
    show(found, table((title, "Looked at", "Young", "In use"), rows), as_json=as_json)
