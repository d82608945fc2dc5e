"""Printing what commands found: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table


def table(columns: Sequence[str | Column], rows: Iterable[Sequence[object]]) -> Table:
    """Lay rows out under column titles."""
    found = Table(*columns)
    for row in rows:
        found.add_row(*(str(each) for each in row))
    return found


def show(found: Any, layout: Table, *, as_json: bool, empty: str = "Nothing there.") -> None:
    """Print the value as JSON, or its layout; an empty one as a sentence."""
    if as_json:
        click.echo(json.dumps(found))
    elif layout.row_count:
        Console().print(layout)
    else:
        click.echo(empty)
