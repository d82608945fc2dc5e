"""Settings for package clients, ready to paste."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from cli.connection import connect
from store.errors import NotFoundError

ALIASES = {
    "docker": "docker",
    "mvn": "mvn",
    "maven": "mvn",
    "apt-get": "apt",
    "yarn1": "yarn",
    "yarn4": "yarn-berry",
}


@click.command(epilog="Example: atoll client pip --data ./node --repository pypi")
@click.option("--data", metavar="DIR")
@click.argument("name", required=False)
@click.option("--repository", help="Repository key; the format's default one if not given.")
@click.option("--user", default="token", help="The user name that goes into the settings.")
@click.option("--token", default="TOKEN", help="The token that goes into the settings.")
@click.option("--url", help="The node's URL as the client reaches it.")
def client(
    data: str | None,
    name: str | None,
    repository: str | None,
    user: str,
    token: str,
    url: str | None,
) -> None:
    """Print the settings that a package client needs for a repository."""
    with connect(data) as node:
        formats = node.call("GET", "/formats")["items"]
        shown = node.call("GET", "/node")
    known = {client: each for each in formats for client in each["client_settings"]}
    if name is None:
        click.echo("\n".join(sorted(known)))
        return
    wanted = ALIASES.get(name, name) if name not in known else name
    if wanted not in known:
        raise NotFoundError(f"no client {name!r}; known: {', '.join(sorted(known))}")
    found = known[wanted]
    root = (url or next(iter(shown["urls"]), "http://127.0.0.1:8080")).rstrip("/")
    key = repository or found["keys"][0]
    values = {
        "url": f"{root}{found['mounts'][0]}/{key}",
        "root": root,
        "host": urlsplit(root).netloc,
        "key": key,
        "user": user,
        "token": token,
    }
    text = found["client_settings"][wanted]
    for place, value in values.items():
        text = text.replace("{" + place + "}", value)
    click.echo(text)
