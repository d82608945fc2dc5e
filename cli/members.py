"""Who belongs to the mesh: invitations, roles, owners, keys, evictions, signatures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Duration(click.ParamType[float]):
    """A number and a unit, such as ``90s``, ``1h`` or ``30d``; the value is seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not like 90s, 15m, 1h, 30d or 2w", param, ctx)
        return float(found[1]) * UNITS[found[2]]


DURATION = Duration()


@click.command(epilog="Example: atoll mesh invite --role writer --site harbour --repo 'npm-*'")
@data_option
@click.option("--site", default="default", help="The site the new node will stand at.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    default=("writer", "admin"),
    show_default=True,
    help="What the node may do: writer (publish), admin (users, tokens), mirror, courier.",
)
@click.option(
    "--repo",
    "repositories",
    multiple=True,
    default=("*",),
    show_default=True,
    help="Repositories it may write to, as patterns.",
)
@click.option("--expires", type=DURATION, default="1d", show_default=True, help="Such as 1h or 7d.")
def invite(
    data: str | None,
    site: str,
    roles: tuple[str, ...],
    repositories: tuple[str, ...],
    expires: float,
) -> None:
    """Print a one-time invitation, and nothing else."""
    body = {
        "site": site,
        "roles": list(roles),
        "repositories": list(repositories),
        "expires_in": expires,
    }
    with connect(data) as node:
        click.echo(node.call("POST", "/mesh/invitations", body)["invitation"])


@click.command(epilog="Example: atoll mesh invitations --withdraw 0f3a…")
@data_option
@click.option("--withdraw", metavar="ID", help="Take an open invitation back.")
@json_option
def invitations(data: str | None, withdraw: str | None, *, as_json: bool) -> None:
    """List the invitations that this node gave out."""
    with connect(data) as node:
        if withdraw:
            node.call("DELETE", f"/mesh/invitations/{withdraw}")
            return
        found = node.call("GET", "/mesh/invitations")
    rows = [
        (i["id"], i["state"], i["site"], " ".join(i["roles"]), " ".join(i["repositories"]))
        for i in found["items"]
    ]
    layout = table(("Invitation", "State", "Site", "Roles", "Repositories"), rows)
    show(found, layout, as_json=as_json, empty="No invitations.")


@click.command(epilog="Example: atoll mesh join --data ./other INVITATION")
@data_option
@click.argument("invitation")
def join(data: str | None, invitation: str) -> None:
    """Join another mesh with the running node; its packages come along."""
    with connect(data) as node:
        node.call("POST", "/mesh/join", {"invitation": invitation})


# --- changes that owners sign --------------------------------------------------------------------
def outcome_text(motion: Mapping[str, Any]) -> str:
    """Say whether a change is in force, or what it waits for.  Pure."""
    changes = "; ".join(motion["changes"])
    if not motion["missing"]:
        return f"Version {motion['version']} is in force: {changes}"
    waiting = ", ".join(each[:12] for each in motion["others"])
    return (
        f"Proposed as version {motion['version']}: {changes}\n"
        f"{motion['missing']} more of {waiting} must sign: atoll mesh sign {motion['id'][:12]}"
    )


def _tell(motion: Mapping[str, Any], *, as_json: bool) -> None:
    click.echo(json.dumps(motion) if as_json else outcome_text(motion))


@click.command(epilog="Example: atoll mesh evict 3f2a90bc --reason 'stolen laptop'")
@data_option
@click.option("--reason", default="", help="Shown to everybody, the evicted node included.")
@json_option
@click.argument("node")
def evict(data: str | None, reason: str, node: str, *, as_json: bool) -> None:
    """Shut NODE out for good.  Its packages stay; nothing it writes from now on counts."""
    with connect(data) as control:
        body = {"node": node, "reason": reason}
        _tell(control.call("POST", "/mesh/evictions", body), as_json=as_json)


@click.command(epilog="Example: atoll mesh rotate --data ./node")
@data_option
@json_option
def rotate(data: str | None, *, as_json: bool) -> None:
    """Give this node a new key; its id stays.  Bearer tokens that it issued are void then."""
    with connect(data) as node:
        found = node.call("POST", "/mesh/rotation", {})
    text = f"Node {found['node'][:12]} has the key {found['key'][:12]} now."
    if found["proposal"]:
        text += "\nIts key as an owner follows. " + outcome_text(found["proposal"])
    click.echo(json.dumps(found) if as_json else text)


@click.command(epilog="Example: atoll mesh roles 3f2a90bc --role mirror --repo 'npm-*'")
@data_option
@click.option("--role", "roles", multiple=True, help="The roles it has from now on.")
@click.option("--repo", "repositories", multiple=True, help="The repositories it may write to.")
@click.option("--site", default=None, help="The site it stands at.")
@click.option("--name", default=None, help="Its name, for people.")
@click.option("--key", default=None, help="Which of two disputed keys is its own.")
@json_option
@click.argument("node", required=False)
def roles(
    data: str | None,
    roles: tuple[str, ...],
    repositories: tuple[str, ...],
    site: str | None,
    name: str | None,
    key: str | None,
    node: str | None,
    *,
    as_json: bool,
) -> None:
    """Show who may do what, and what waits for signatures; or change what NODE may do."""
    body: dict[str, Any] = {"site": site, "name": name, "key": key}
    body |= {"roles": list(roles) or None, "repositories": list(repositories) or None}
    changes = {field: value for field, value in body.items() if value is not None}
    if node is None and changes:
        raise click.UsageError("say which node")
    with connect(data) as control:
        if node is not None and changes:
            _tell(control.call("PATCH", f"/mesh/members/{node}", changes), as_json=as_json)
            return
        found = control.call("GET", "/mesh/roots")
    if node is not None:
        found["members"] = [m for m in found["members"] if node in (m["node"][:8], m["name"])]
    show(found, members_table(found), as_json=as_json)
    if not as_json:
        for line in governance_lines(found):
            click.echo(line)


def members_table(found: Mapping[str, Any]) -> Table:
    """Lay members out.  Pure."""
    rows = [
        (
            m["node"][:12],
            m["name"],
            m["site"],
            " ".join(m["roles"]),
            " ".join(m["repositories"]),
            "in dispute" if m["disputed"] else m["key"][:12],
            " ".join(
                ["owner"] * m["owner"]
                + ([f"admitted by {m['admitted_by'][:12]}"] if m["admitted_by"] else [])
            ),
        )
        for m in found["members"]
    ]
    return table(("Node", "Name", "Site", "Roles", "Repositories", "Key", ""), rows)


def governance_lines(found: Mapping[str, Any]) -> list[str]:
    """Say the rest: owners, evictions, rivals, what waits.  Pure."""
    owners = ", ".join(each[:12] for each in found["owners"])
    lines = [f"Version {found['version']}, signed by {found['threshold']} of: {owners}"]
    if found["contested"]:
        lines.append("RIVAL root documents: rights hold where all agree. See: atoll mesh settle")
    lines += [
        f"{each['node'][:12]} may admit {each['limit']}: {' '.join(each['roles'])} "
        f"for {' '.join(each['repositories'])} at {' '.join(each['sites'])}"
        for each in found["delegations"]
    ]
    for each in found["reserved"]:
        what = f"names {each['prefix']}*" if each["prefix"] else "everything"
        lines.append(f"{what} in {each['repositories']} belongs to {each['site']}")
    lines += [f"Evicted: {each['node'][:12]} ({each['reason']})" for each in found["evicted"]]
    lines += [f"{p['id'][:12]}: {outcome_text(p)}" for p in found["proposals"]]
    return lines


@click.command(epilog="Example: atoll mesh roots --export 4be1… --to eviction.root")
@data_option
@click.option("--export", "export", metavar="ID", help="Write a proposal to a file.")
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), help="That file.")
@click.option(
    "--import",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Take a proposal, or a signed root document, from a file.",
)
@click.option("--forget", metavar="ID", help="Drop a proposal here.")
@json_option
def roots(
    data: str | None,
    export: str | None,
    to: Path | None,
    source: Path | None,
    forget: str | None,
    *,
    as_json: bool,
) -> None:
    """List root documents and proposals; carry one to another owner by hand."""
    with connect(data) as node:
        if export:
            text = node.call("GET", f"/mesh/proposals/{export}")["document"]
            to.write_text(text + "\n") if to else click.echo(text)
        elif source:
            document = "".join(source.read_text().split())
            new = node.call("POST", "/mesh/proposals", {"document": document})["new"]
            click.echo("Taken." if new else "Nothing new.")
        elif forget:
            node.call("DELETE", f"/mesh/proposals/{forget}")
        else:
            found = node.call("GET", "/mesh/roots")
            show(found, roots_table(found), as_json=as_json)


def roots_table(found: Mapping[str, Any]) -> Table:
    """Lay versions and proposals out, the newest first.  Pure."""
    rows: list[Sequence[object]] = [
        (p["id"][:12], p["version"], f"lacks {p['missing']}", "; ".join(p["changes"]))
        for p in found["proposals"]
    ]
    for each in found["roots"]:
        state = "in force" if each["in_force"] else "replaced"
        signed = ", ".join(s[:12] for s in each["signed"])
        rows.append((each["id"][:12], each["version"], state, f"signed by {signed}"))
    return table(("Document", "Version", "State", ""), rows)


@click.command(epilog="Example: atoll mesh sign 4be1c09d77aa")
@data_option
@click.option("--rival", is_flag=True, help="Although this owner has signed another one.")
@json_option
@click.argument("proposal")
def sign(data: str | None, proposal: str, *, rival: bool, as_json: bool) -> None:
    """Sign a proposal with the owner's key that this node holds.  See: atoll mesh roles."""
    with connect(data) as node:
        motion = node.call("POST", f"/mesh/proposals/{proposal}/signature", {"rival": rival})
    _tell(motion, as_json=as_json)


@click.command(epilog="Example: atoll mesh owners 3f2a90bc 77aa10ef --threshold 2")
@data_option
@click.option("--threshold", type=int, default=0, help="How many must sign; default a majority.")
@json_option
@click.argument("nodes", nargs=-1, required=True)
def owners(data: str | None, threshold: int, nodes: tuple[str, ...], *, as_json: bool) -> None:
    """Say which NODES own the mesh, all of them, and how many must sign."""
    with connect(data) as node:
        body = {"owners": list(nodes), "threshold": threshold}
        _tell(node.call("PUT", "/mesh/owners", body), as_json=as_json)


@click.command(epilog="Example: atoll mesh delegate 3f2a90bc --role mirror --site harbour")
@data_option
@click.option("--role", "roles", multiple=True, default=("mirror",), show_default=True)
@click.option("--repo", "repositories", multiple=True, default=("*",), show_default=True)
@click.option("--site", "sites", multiple=True, default=("*",), show_default=True)
@click.option("--expires", type=DURATION, default="90d", show_default=True)
@click.option("--limit", default=20, show_default=True, help="How many nodes it may admit.")
@click.option("--withdraw", is_flag=True, help="End it; whom it admitted stays.")
@json_option
@click.argument("node")
def delegate(
    data: str | None,
    roles: tuple[str, ...],
    repositories: tuple[str, ...],
    sites: tuple[str, ...],
    expires: float,
    limit: int,
    node: str,
    *,
    withdraw: bool,
    as_json: bool,
) -> None:
    """Let NODE admit writers, mirrors and couriers by itself, within bounds."""
    body = {
        "roles": list(roles),
        "repositories": list(repositories),
        "sites": list(sites),
        "expires_in": expires,
        "limit": limit,
    }
    with connect(data) as control:
        path = f"/mesh/delegations/{node}"
        motion = control.call("DELETE", path) if withdraw else control.call("PUT", path, body)
    _tell(motion, as_json=as_json)


@click.command(epilog="Example: atoll mesh reserve npm:acme-:harbour 'docker-*::shore'")
@data_option
@json_option
@click.argument("rules", nargs=-1)
def reserve(data: str | None, rules: tuple[str, ...], *, as_json: bool) -> None:
    """Set which names or whole repositories one site alone may write; without RULES, none.

    A rule is REPOSITORIES:PREFIX:SITE.  An empty prefix reserves the repositories whole.
    """
    parts = [rule.split(":") for rule in rules]
    if any(len(part) != 3 for part in parts):
        raise click.UsageError("a rule is REPOSITORIES:PREFIX:SITE")
    items = [dict(zip(("repositories", "prefix", "site"), part, strict=True)) for part in parts]
    with connect(data) as node:
        _tell(node.call("PUT", "/mesh/reservations", {"items": items}), as_json=as_json)


@click.command(epilog="Example: atoll mesh settle --data ./node")
@data_option
@json_option
def settle(data: str | None, *, as_json: bool) -> None:
    """Draft the document that names all rivals: what both give stays, what one took is gone."""
    with connect(data) as node:
        _tell(node.call("POST", "/mesh/settlement", {}), as_json=as_json)


COMMANDS = (
    invite,
    invitations,
    join,
    evict,
    rotate,
    roles,
    roots,
    sign,
    owners,
    delegate,
    reserve,
    settle,
)
