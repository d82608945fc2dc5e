"""Settings for package clients, ready to paste."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import click

from cli.connection import connect
from cli.options import data_option
from store.errors import NotFoundError, RejectedError

ALIASES = {
    "docker": "docker",
    "mvn": "mvn",
    "maven": "mvn",
    "apt-get": "apt",
    "yarn1": "yarn",
    "yarn4": "yarn-berry",
}


class Only:
    """A place that keeps the text in it, ``{http:…}``, or drops it."""

    def __init__(self, *, kept: bool) -> None:
        self._kept = kept

    def __format__(self, text: str) -> str:
        return text if self._kept else ""


def settings_places(url: str, key: str, user: str, token: str) -> dict[str, str | Only]:
    """Everything that a format's client settings may name; `formats.contract.Format` lists it."""
    parts = urlsplit(url)
    secret = f"{quote(user, safe='')}:{quote(token, safe='')}"
    return {
        "url": url,
        "secret_url": f"{parts.scheme}://{secret}@{parts.netloc}{parts.path}",
        "address": f"//{parts.netloc}{parts.path}",
        "host": parts.netloc,
        "hostname": parts.hostname or "",
        "path": parts.path,
        "key": key,
        "user": user,
        "token": token,
        "http": Only(kept=parts.scheme == "http"),
        "https": Only(kept=parts.scheme == "https"),
    }


@click.command(epilog="Example: atoll client pip --data ./node --repository pypi")
@data_option
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
        chosen = node.call("GET", f"/repositories/{quote(repository)}") if repository else None
    known = {client: each for each in formats for client in each["client_settings"]}
    if name is None:
        click.echo("\n".join(sorted(known)))
        return
    wanted = ALIASES.get(name, name) if name not in known else name
    if wanted not in known:
        raise NotFoundError(f"no client {name!r}; known: {', '.join(sorted(known))}")
    found = known[wanted]
    if chosen is not None and chosen["format"] not in found["keys"]:
        raise RejectedError(f"{repository} is a {chosen['format']} repository: not for {wanted}")
    root = (url or next(iter(shown["urls"]), "http://127.0.0.1:8080")).rstrip("/")
    key = repository or found["keys"][0]
    places = settings_places(f"{root}{found['mounts'][0]}/{key}", key, user, token)
    click.echo(found["client_settings"][wanted].format_map(places))
