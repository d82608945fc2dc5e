"""The options that commands share mean the same everywhere."""

from __future__ import annotations

import click
import pytest

from cli.main import COMMANDS, atoll
from cli.options import data_option, json_option


def commands() -> list[click.Command]:
    """Every command, those of groups included."""
    found = []
    context = click.Context(atoll)
    for name in sorted(COMMANDS):
        command = atoll.get_command(context, name)
        assert command is not None
        found += list(getattr(command, "commands", {}).values()) or [command]
    return found


@pytest.mark.parametrize("name", ["--data", "--json"])
def test_an_option_has_one_meaning_and_one_name_in_the_code(name: str) -> None:
    options = [each for one in commands() for each in one.params if name in each.opts]
    assert len(options) > 20
    assert len({each.name for each in options}) == 1


def test_the_shared_options_reach_a_command() -> None:
    @click.command()
    @data_option
    @json_option
    def command(data: str | None, *, as_json: bool) -> None: ...

    assert {each.name for each in command.params} == {"data", "as_json"}
