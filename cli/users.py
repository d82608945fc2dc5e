"""Users and what they may do."""

from __future__ import annotations

import click

from cli.connection import connect
from cli.options import data_option, json_option
from cli.output import show, table


@click.group()
def user() -> None:
    """Make, list and delete users; grant them rights."""


@user.command("list", epilog="Example: atoll user list --data ./node")
@data_option
@json_option
def list_users(data: str | None, *, as_json: bool) -> None:
    """List the users."""
    with connect(data) as node:
        items = node.call("GET", "/users")["items"]
    rows = [(u["username"], u["email"], u["is_admin"], u["is_active"]) for u in items]
    show(items, table(("User", "E-mail", "Admin", "Active"), rows), as_json=as_json)


@user.command(epilog="Example: atoll user create --data ./node ann --admin")
@data_option
@click.argument("name")
@click.option("--admin", is_flag=True)
@click.option("--email", default="")
@click.password_option(help="Asked for when it is not given.")
def create(data: str | None, name: str, *, admin: bool, email: str, password: str) -> None:
    """Create a user."""
    body = {"username": name, "password": password, "email": email, "is_admin": admin}
    with connect(data) as node:
        node.call("POST", "/users", body)


@user.command(epilog="Example: atoll user password --data ./node ann")
@data_option
@click.argument("name")
@click.password_option(help="Asked for when it is not given.")
def password(data: str | None, name: str, password: str) -> None:
    """Set a user's password."""
    with connect(data) as node:
        node.call("POST", f"/users/{name}/password", {"new_password": password})


@user.command(epilog="Example: atoll user delete --data ./node ann")
@data_option
@click.argument("name")
def delete(data: str | None, name: str) -> None:
    """Delete a user, its tokens and its rights."""
    with connect(data) as node:
        node.call("DELETE", f"/users/{name}")


@user.command(epilog="Example: atoll user grant --data ./node ann 'pypi*' --action write")
@data_option
@click.argument("name")
@click.argument("repository")
@click.option("--action", "actions", multiple=True, required=True)
@click.option("--group", "is_group", is_flag=True, help="NAME is a group.")
def grant(
    data: str | None, name: str, repository: str, actions: tuple[str, ...], *, is_group: bool
) -> None:
    """Allow a user (or group) actions on repositories that match a pattern."""
    body = {
        "principal_type": "group" if is_group else "user",
        "principal": name,
        "repository": repository,
        "actions": list(actions),
    }
    with connect(data) as node:
        click.echo(node.call("POST", "/permissions", body)["id"])
