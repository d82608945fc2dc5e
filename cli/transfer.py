"""Publishing and getting generic files, with a progress bar."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from cli.connection import connect
from cli.options import data_option
from store.errors import DigestMismatchError, NotFoundError, RegistryError, UnavailableError

PIECE = 1 << 18
TIMEOUT = 120.0  # seconds without progress


@contextmanager
def _target(data: str | None, url: str | None) -> Generator[tuple[str, dict[str, str]]]:
    """The node's URL and the headers that authorise."""
    if url:
        token = os.environ.get("ATOLL_TOKEN", "")
        yield url, {"authorization": f"Bearer {token}"} if token else {}
        return
    with connect(data) as node:
        yield node.url, {"authorization": f"Bearer {node.call('POST', '/auth/operator')['token']}"}


def _open(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=context)
    return http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)


def progress_bar() -> Progress:
    """A bar on standard error, only where somebody sees it."""
    return Progress(
        "{task.description}",
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


class Watched:
    """A file that moves a progress bar as it is read."""

    def __init__(self, file: BinaryIO, progress: Progress, size: int, name: str) -> None:
        self._file, self._progress = file, progress
        self._task = progress.add_task(name, total=size)

    def read(self, size: int = PIECE) -> bytes:
        """Read on."""
        data = self._file.read(max(size, PIECE))
        self._progress.update(self._task, advance=len(data))
        return data


@click.command(epilog="Example: atoll publish --data ./node build.tar generic/builds/build.tar")
@data_option
@click.option("--url", metavar="URL", help="A node elsewhere; the token is taken from ATOLL_TOKEN.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="REPOSITORY/PATH")
def publish(data: str | None, url: str | None, file: Path, target: str) -> None:
    """Publish a file into a generic repository."""
    size = file.stat().st_size
    with (
        _target(data, url) as (root, headers),
        file.open("rb") as opened,
        progress_bar() as progress,
    ):
        connection = _open(root)
        try:
            body = Watched(opened, progress, size, file.name)
            connection.request(
                "PUT",
                f"/general/{quote(target)}",
                body,
                {**headers, "content-length": str(size)},
            )
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except OSError as error:
            raise UnavailableError(f"the node does not answer: {error}") from error
        finally:
            connection.close()
    if answer.status >= 400:
        raise RegistryError(f"{answer.status}: {text.strip()[:300]}")
    click.echo(f"{root}/general/{quote(target)}")


@click.command(epilog="Example: atoll get --data ./node generic/builds/build.tar build.tar")
@data_option
@click.option("--url", metavar="URL", help="A node elsewhere; the token is taken from ATOLL_TOKEN.")
@click.argument("source", metavar="REPOSITORY/PATH")
@click.argument("file", type=click.Path(path_type=Path), required=False)
def get(data: str | None, url: str | None, source: str, file: Path | None) -> None:
    """Get a file from a generic repository, resuming a partial one, and verify it."""
    target = file or Path(source.rpartition("/")[2])
    partial = target.with_name(target.name + ".part")
    with _target(data, url) as (root, headers), progress_bar() as progress:
        digest = _fetch(root, headers, source, partial, progress)
    if digest and _sha256(partial) != digest:
        partial.unlink()
        raise DigestMismatchError(digest, "other bytes")
    partial.replace(target)
    click.echo(str(target))


def _fetch(
    root: str, headers: dict[str, str], source: str, partial: Path, progress: Progress
) -> str:
    """Download what is missing; returns the SHA-256 that the node states."""
    have = partial.stat().st_size if partial.exists() else 0
    connection = _open(root)
    try:
        extra = {"range": f"bytes={have}-"} if have else {}
        connection.request("GET", f"/general/{quote(source)}", headers={**headers, **extra})
        answer = connection.getresponse()
        if answer.status == 404:
            raise NotFoundError(f"{source} is not there")
        if answer.status == 416:
            return answer.getheader("x-checksum-sha256") or ""
        if answer.status >= 400:
            raise RegistryError(f"{answer.status}: {answer.read(300).decode('utf-8', 'replace')}")
        have = have if answer.status == 206 else 0
        total = have + int(answer.getheader("content-length") or 0)
        task = progress.add_task(source, total=total, completed=have)
        with partial.open("ab" if have else "wb") as file:
            while piece := answer.read(PIECE):
                file.write(piece)
                progress.update(task, advance=len(piece))
        if partial.stat().st_size != total:
            raise UnavailableError("the connection broke; run the command again to go on")
        return answer.getheader("x-checksum-sha256") or ""
    except OSError as error:
        raise UnavailableError(f"the node does not answer: {error}") from error
    finally:
        connection.close()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
