"""Backups of a data directory, while its node runs or not."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal
from rich.progress import Progress

from cli.connection import configuration
from cli.options import data_option, json_option
from cli.output import show, table
from store import backup as backups
from store.errors import RegistryError

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(epilog="Example: atoll backup --data ./node --to /mnt/backup --keep 7")
@data_option
@click.option("--to", "target", type=FOLDER, required=True, help="Where the snapshots are kept.")
@click.option("--keep", type=click.IntRange(1), help="Remove all but this many snapshots then.")
@click.option("--list", "listing", is_flag=True, help="List what is there, and do nothing.")
@click.option("--check", is_flag=True, help="Hash every byte of the newest snapshot, too.")
@json_option
def backup(
    data: str | None,
    target: Path,
    keep: int | None,
    *,
    listing: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Add a snapshot of a node to a folder; only blobs that are not there yet are copied."""
    if listing:
        _list(target, as_json=as_json)
        return
    config = configuration(data)
    with _progress() as progress:
        report = backups.take(config.path, target, progress=progress)
        bad = backups.check(target, report.name, progress=progress) if check else []
    removed = backups.prune(target, keep) if keep is not None else 0
    if as_json:
        click.echo(
            json.dumps(
                {
                    "snapshot": report.name,
                    "blobs": report.blobs,
                    "copied": report.copied,
                    "copied_bytes": report.copied_bytes,
                    "damaged": [*report.damaged, *bad],
                    "removed_blobs": removed,
                }
            )
        )
    else:
        copied = f"{report.copied} copied ({decimal(report.copied_bytes)})"
        click.echo(f"{report.name}: {report.blobs} blobs, {copied}, {removed} removed")
    _refuse([*(f"blobs/{name}" for name in report.damaged), *bad], "see: atoll verify --repair")


@click.command(epilog="Example: atoll restore --from /mnt/backup --data ./again")
@click.option("--from", "source", type=FOLDER, required=True, help="Where the snapshots are kept.")
@click.option("--snapshot", default="", help="Which one; the newest if not given.")
@click.option("--data", type=FOLDER, required=True, help="The directory to make; it must be empty.")
def restore(source: Path, snapshot: str, data: Path) -> None:
    """Make a data directory of a snapshot, every byte verified.

    Start a node there and it goes on as itself: what it wrote after the backup comes back from its
    peers, and what it writes from then on is never mixed up with that.
    """
    with _progress() as progress:
        report = backups.restore(source, snapshot, data, progress=progress)
    click.echo(f"{report.name}: {report.copied} blobs ({decimal(report.copied_bytes)})")
    _refuse([f"blobs/{name}" for name in report.damaged], "peers may still have them")


def _refuse(bad: list[str], advice: str) -> None:
    if bad:
        for name in bad:
            click.echo(f"damaged: {name}", err=True)
        raise RegistryError(f"{len(bad)} files are damaged ({advice})")


def _list(target: Path, *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "snapshot": name,
            "taken": each.taken,
            "blobs": each.blobs,
            "bytes": each.bytes,
        }
        for name, each in backups.snapshots(target)
    ]
    layout = table(
        ("Snapshot", "Taken", "Blobs", "Size"),
        [
            (
                each["snapshot"],
                time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(each["taken"])),
                each["blobs"],
                decimal(each["bytes"]),
            )
            for each in rows
        ],
    )
    show(rows, layout, as_json=as_json, empty="No snapshots yet.")


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Show on a terminal what is being done and how much of it."""
    columns = Progress(transient=True, disable=not sys.stderr.isatty())
    with columns as shown:
        tasks = {}
        totals: dict[str, int] = {}

        def report(what: str, size: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=None)
            totals[what] = totals.get(what, 0) + size
            shown.update(tasks[what], description=f"{what} {decimal(totals[what])}")

        yield report
