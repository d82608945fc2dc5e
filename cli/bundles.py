"""Bundles: carrying a registry on a stick, or over a link that goes one way."""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.filesize import decimal

from cli.connection import KINDS, Node, connect
from cli.options import data_option, json_option
from cli.transfer import Watched, progress_bar
from mesh.bundle.tail import head_of, summary
from store.errors import RegistryError, RejectedError, UnavailableError

PIECE = 256 << 10
PATIENCE = 600.0  # seconds without a byte: a disk that is slow to sync is no failure


@contextmanager
def _asking(
    node: Node, method: str, path: str, body: object, headers: Mapping[str, str]
) -> Generator[http.client.HTTPResponse]:
    """An open answer of the node.  Raises the RegistryError that its status stands for."""
    parts = urlsplit(node.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    given = {"authorization": f"Control {node.secret}", **headers}
    try:
        data: Any = body
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why
                connection.request(method, f"/api/v1{path}", data, given, encode_chunked=True)
            answer = connection.getresponse()
        except OSError as error:
            raise UnavailableError(f"the node does not answer: {error}") from error
        if answer.status >= 400:
            text = answer.read().decode("utf-8", "replace")
            raise KINDS.get(answer.status, RegistryError)(_message(text))
        yield answer
    except http.client.HTTPException as error:
        raise UnavailableError(f"the node broke off: {error!r}") from error
    finally:
        connection.close()


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300]


def _standing(file: Path, body: dict[str, Any]) -> None:
    """Let the export begin after a bundle, or after what ``atoll mesh standing`` printed."""
    with file.open("rb") as opened:
        if opened.read(1) == b"{":
            body["since"] = json.loads(file.read_bytes())
            return
        before = summary(opened)
    same = before.opening.blobs and list(before.opening.repositories) == body["repositories"]
    body["previous"] = before.id.hex()
    body["since"] = {
        "chains": [
            {"author": author, "incarnation": life, "seq": seq}
            for (author, life), seq in before.reach.items()
        ],
        "more": not same,  # the bundle before has not brought all blobs that this one is to bring
    }


@click.command(
    epilog="Example: atoll export --data ./node --to stick/all.bundle;  "
    "atoll export --data ./node --since stick/all.bundle --to stick/news.bundle"
)
@data_option
@click.option("--to", "target", required=True, metavar="FILE", help="'-' is standard output.")
@click.option(
    "--since",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A bundle that the target has taken, or what 'atoll mesh standing --json' printed there.",
)
@click.option("--for", "member", default="", metavar="NODE", help="Leave out what NODE has.")
@click.option("--repo", "repositories", multiple=True, help="Blobs of these only (glob).")
@click.option("--without-blobs", is_flag=True, help="Records only.")
@json_option
def export(
    data: str | None,
    target: str,
    since: Path | None,
    member: str,
    repositories: tuple[str, ...],
    *,
    without_blobs: bool,
    as_json: bool,
) -> None:
    """Write records and blobs to a file that any node of the mesh can import.

    The node may be stopped.  Records always come of all repositories, or their chains could not
    be verified.
    """
    globs = list(repositories) or ["*"]
    body: dict[str, Any] = {"repositories": globs, "blobs": not without_blobs, "target": member}
    if since is not None:
        _standing(since, body)
    headers = {"content-type": "application/json"}
    with connect(data) as node:
        sent = json.dumps(body).encode()
        with _asking(node, "POST", "/mesh/bundles/exports", sent, headers) as answer:
            size = _store(answer, target)
    if target == "-":
        return
    made = _content(target, size)
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(
        f"{target}: {made['records']} records, {made['blobs']} blobs, {decimal(size)}"
        + (f"; {made['omitted']} blobs left out" if made["omitted"] else "")
    )


def _content(target: str, size: int) -> dict[str, Any]:
    """What there is in a bundle that was written."""
    with Path(target).open("rb") as opened:
        found = summary(opened)
    return {
        "bundle": found.id.hex(),
        "file": target,
        "size": size,
        "records": found.closing.records,
        "blobs": found.closing.blobs,
        "omitted": found.closing.omitted,
    }


def _store(answer: http.client.HTTPResponse, target: str) -> int:
    """Write the bundle beside its place, and put it there once it is whole and on the disk."""
    if target == "-":
        return _copy(answer, sys.stdout.buffer)
    partial = Path(target + ".part")
    try:
        with partial.open("wb") as file:
            size = _copy(answer, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:  # the stick is full or gone, or the node is
        raise UnavailableError(f"{target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return size


def _copy(answer: http.client.HTTPResponse, file: BinaryIO) -> int:
    size = 0
    with progress_bar() as progress:
        task = progress.add_task("export", total=None)
        while piece := answer.read(PIECE):
            file.write(piece)
            size += len(piece)
            progress.update(task, advance=len(piece))
    return size


@click.command(
    "import", epilog="Example: atoll import --data ./node stick/all.bundle;  again to go on"
)
@data_option
@json_option
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
def import_(data: str | None, file: str, *, as_json: bool) -> None:
    """Take a bundle in: verified as if a peer had brought it.

    An interrupted import goes on where it was; importing again changes nothing.  Exit code 1 when
    the bundle is truncated, or records that come before it are missing here.
    """
    with connect(data) as node:
        if file == "-":
            report = _send(node, sys.stdin.buffer, "", 0, 0)
        else:
            path = Path(file)
            with path.open("rb") as opened:
                bundle = head_of(opened).id.hex()
                offset = int(node.call("GET", f"/mesh/bundles/{bundle}")["offset"])
                size = path.stat().st_size
                offset = offset if offset < size else 0
                opened.seek(offset)
                report = _send(node, opened, bundle, offset, size)
    if as_json:
        click.echo(json.dumps(report))
    else:
        for line in report_lines(report):
            Console().print(line, highlight=False, markup=False)
    if not report["complete"] or report["gaps"]:
        sys.exit(1)


def _send(node: Node, file: BinaryIO, bundle: str, offset: int, size: int) -> dict[str, Any]:
    path = f"/mesh/bundles?bundle={bundle}" if bundle else "/mesh/bundles"
    headers = {"content-type": "application/vnd.atoll.bundle"}
    if offset:
        headers["content-range"] = f"bytes {offset}-/{size}"
    if size:
        headers["content-length"] = str(size - offset)
    else:
        headers["transfer-encoding"] = "chunked"
    with progress_bar() as progress:
        body = Watched(file, progress, size - offset, "import")
        with _asking(node, "POST", path, body, headers) as answer:
            found = json.loads(answer.read())
    if not isinstance(found, dict):
        raise RejectedError("the node gave no report")
    return found


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Say what an import has done.  Pure."""
    first = (
        f"{report['records']} new records ({report['known_records']} known), "
        f"{report['blobs']} new blobs ({report['known_blobs']} known), "
        f"{decimal(report['size'])}"
    )
    lines = [first]
    if not report["complete"]:
        lines.append(f"The bundle is truncated at byte {report['offset']}: import it again whole.")
    for gap in report["gaps"]:
        before = report["previous"][:16]
        lines.append(
            f"Records {gap['have'] + 1} to {gap['first'] - 1} of {gap['author'][:12]} are missing: "
            + (f"import bundle {before} first." if before else "export with an earlier --since.")
        )
    told = {
        "unnamed_blobs": "blobs that no record here names",
        "partial_blobs": "blobs of which chunks are missing",
        "lacking": "blobs that were left out because they should be here, and are not",
    }
    lines += [f"{report[name]} {text}" for name, text in told.items() if report[name]]
    lines += [f"Refused {count} times: {why}" for why, count in report["refused"].items()]
    return lines


@click.command(epilog="Example: atoll mesh standing --data ./node --json > node.json")
@data_option
@json_option
def standing(data: str | None, *, as_json: bool) -> None:
    """Show how far this node's records reach, for 'atoll export --since' elsewhere."""
    with connect(data) as node:
        found = node.call("GET", "/mesh/standing")
    if as_json:
        click.echo(json.dumps(found))
        return
    records = sum(chain["seq"] for chain in found["chains"])
    more = "at least " if found["more"] else ""
    click.echo(
        f"{records} records by {len(found['chains'])} authors; root version "
        f"{found['root_version']}; {more}{len(found['lacking'])} blobs are not here"
    )
