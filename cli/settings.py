"""The effective configuration."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cli.options import data_option, json_option
from cli.output import show, table
from node.config import load


@click.command(epilog="Example: atoll config --config atoll.toml --json")
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False), metavar="FILE")
@data_option
@json_option
def config(file: str | None, data: str | None, *, as_json: bool) -> None:
    """Print every effective setting and where it came from."""
    _, settings = load(
        file=Path(file) if file else None, environment=os.environ, flags={"data": data}
    )
    found = [{"key": s.key, "value": s.value, "origin": s.origin} for s in settings]
    layout = table(("Key", "Value", "Origin"), [(s.key, s.value, s.origin) for s in settings])
    show(found, layout, as_json=as_json)
