"""Is this node well?  Looks at its data directory, the machine, and the node if it is running.

Checks only read; each says what was found and, where it matters, what to do.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from cli.connection import Node, configuration, running
from cli.options import data_option, json_option
from node.config import Config
from store.errors import RegistryError

GOOD, WARNING, BAD = "good", "warning", "bad"
COLOURS = {GOOD: "green", WARNING: "yellow", BAD: "red"}
FREE_MIN = 1 << 30  # bytes
SAMPLE = 20  # blobs hashed again
LIBRARIES = ("trio", "hypercorn", "quart-trio", "sqlalchemy", "pynacl", "msgspec")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: str
    text: str


def findings_table(findings: Sequence[Finding]) -> Table:
    """Lay findings out, the worst first.  Pure."""
    table = Table("Check", "State", "Found")
    order = (BAD, WARNING, GOOD)
    for each in sorted(findings, key=lambda f: order.index(f.state)):
        table.add_row(each.check, f"[{COLOURS[each.state]}]{each.state}[/]", each.text)
    return table


def check_directory(data: Path) -> Iterator[Finding]:
    """The data directory: there, ours alone, with room."""
    if not (data / "node.key").exists():
        yield Finding("data directory", BAD, f"{data} has no node; make one with: atoll init")
        return
    loose = [name for name in ("node.key", "admin.password") if _readable(data / name)]
    if loose:
        yield Finding("secrets", BAD, f"others may read {', '.join(loose)}; chmod 600 them")
    else:
        yield Finding("secrets", GOOD, "readable by their owner only")
    free = shutil.disk_usage(data).free
    state = GOOD if free >= FREE_MIN else WARNING
    yield Finding("free space", state, f"{free / 1e9:.1f} GB on the disk of {data}")
    writable = os.access(data, os.W_OK)
    yield Finding("writable", GOOD if writable else BAD, "yes" if writable else f"{data} is not")


def _readable(file: Path) -> bool:
    return file.exists() and bool(file.stat().st_mode & 0o077)


def check_databases(config: Config) -> Iterator[Finding]:
    """SQLite files open and are sound; PostgreSQL is left to the running node."""
    if config.database.url:
        yield Finding("database", GOOD, "configured: the running node checks it")
        return
    for name in ("facts.db", "local.db"):
        file = config.path / name
        try:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5) as connection:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            yield Finding(name, BAD, str(error))
            continue
        yield Finding(name, GOOD if answer == "ok" else BAD, str(answer))


def check_blobs(data: Path) -> Iterator[Finding]:
    """A sample of blobs still hash to their names."""
    from hashlib import file_digest

    wrong: list[str] = []
    seen = 0
    for file in islice(data.glob("blobs/*/*"), SAMPLE):
        seen += 1
        with file.open("rb") as opened:
            if file_digest(opened, "sha256").hexdigest() != file.name:
                wrong.append(file.name)
    if wrong:
        yield Finding("blobs", BAD, f"damaged on disk: {', '.join(wrong)}")
    else:
        yield Finding("blobs", GOOD, f"{seen} looked at, all hash to their names")


def check_machine() -> Iterator[Finding]:
    """Python, libraries and the programs that some features need."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    yield Finding("software", GOOD, ", ".join(versions))
    if shutil.which("gpg"):
        yield Finding("GnuPG", GOOD, "present: Debian repositories can be signed")
    else:
        yield Finding("GnuPG", WARNING, "missing: install gnupg to serve Debian repositories")


def check_running(node: Node | None) -> Iterator[Finding]:
    """The running node: its peers, its clock, its ledgers."""
    if node is None:
        yield Finding("node", WARNING, "not running (the data directory was checked all the same)")
        return
    shown = node.call("GET", "/node")
    yield Finding("node", GOOD, f"{shown['node_id'][:12]} at {', '.join(shown['urls'])}")
    found = node.call("GET", "/mesh/peers")
    down = [each["name"] or each["node"][:8] for each in found["items"] if each["state"] != "up"]
    text = f"{len(found['items'])} known" + (f", not linked: {', '.join(down)}" if down else "")
    yield Finding("peers", WARNING if down else GOOD, text)
    for each in found["items"]:
        if abs(each["skew"]) > 60:
            name = each["name"] or each["node"][:8]
            yield Finding("clocks", WARNING, f"{name}'s clock is {each['skew']:.0f} s off ours")
    bad = [each["author"][:8] for each in found["authors"] if each["reasons"] or each["rejected"]]
    if bad:
        yield Finding("ledgers", WARNING, f"in trouble: {', '.join(bad)} (see: atoll mesh peers)")


def examine(config: Config) -> list[Finding]:
    """Run every check; one that fails itself is a finding too."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("data directory", lambda: check_directory(config.path)),
        ("databases", lambda: check_databases(config)),
        ("blobs", lambda: check_blobs(config.path)),
        ("machine", check_machine),
        ("node", lambda: check_running(running(config.path))),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except (OSError, RegistryError) as error:
            found.append(Finding(name, BAD, str(error)))
        if any(each.state == BAD and each.check == "data directory" for each in found):
            break
    return found


@click.command(epilog="Example: atoll doctor --data ./node --json")
@data_option
@json_option
def doctor(data: str | None, *, as_json: bool) -> None:
    """Check a node and its machine; exits with 1 if something is bad."""
    found = examine(configuration(data))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    else:
        Console().print(findings_table(found))
    if any(each.state == BAD for each in found):
        sys.exit(1)
