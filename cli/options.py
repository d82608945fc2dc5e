"""Options that many commands share, so that they mean the same everywhere."""

from __future__ import annotations

import click

data_option = click.option("--data", metavar="DIR", help="Data directory of the node.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
