"""What the commands about members print."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.members import (
    COMMANDS,
    DURATION,
    governance_lines,
    members_table,
    outcome_text,
    reserve,
    roles,
    roots_table,
)

PROPOSAL: dict[str, Any] = {
    "id": "ab" * 32,
    "version": 7,
    "missing": 1,
    "signed": ["a" * 64],
    "others": ["b" * 64],
    "can_sign": True,
    "created": 0.0,
    "changes": ["evicts cccccccccccc: stolen"],
}
FOUND: dict[str, Any] = {
    "version": 6,
    "threshold": 2,
    "contested": True,
    "owners": ["a" * 64, "b" * 64],
    "members": [
        {
            "node": "d" * 64,
            "name": "reef1",
            "site": "reef",
            "roles": ["mirror"],
            "repositories": ["npm-*"],
            "key": "e" * 64,
            "disputed": False,
            "admitted_by": "a" * 64,
            "owner": True,
        }
    ],
    "delegations": [
        {"node": "d" * 64, "roles": ["mirror"], "repositories": ["*"], "sites": ["*"], "limit": 3}
    ],
    "reserved": [
        {"repositories": "npm", "prefix": "acme-", "site": "reef"},
        {"repositories": "docker", "prefix": "", "site": "reef"},
    ],
    "evicted": [{"node": "c" * 64, "reason": "stolen"}],
    "proposals": [PROPOSAL],
    "roots": [{"id": "f" * 64, "version": 6, "in_force": True, "signed": ["a" * 64]}],
}


def text(table: Any) -> str:
    console = Console(width=200, record=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_durations_are_a_number_and_a_unit() -> None:
    assert [DURATION.convert(t, None, None) for t in ("90s", "15m", "1h", "1.5d", "2w")] == [
        90.0,
        900.0,
        3600.0,
        129600.0,
        1209600.0,
    ]
    for wrong in ("1", "h", "-1h", "1y"):
        with pytest.raises(click.BadParameter):
            DURATION.convert(wrong, None, None)


def test_a_change_says_what_it_waits_for() -> None:
    assert "must sign: atoll mesh sign abababababab" in outcome_text(PROPOSAL)
    done = {**PROPOSAL, "missing": 0}
    assert outcome_text(done) == "Version 7 is in force: evicts cccccccccccc: stolen"


def test_everything_that_owners_signed_is_shown() -> None:
    shown = text(members_table(FOUND))
    assert "reef1" in shown
    assert "admitted by aaaaaaaaaaaa" in shown
    lines = "\n".join(governance_lines(FOUND))
    for words in (
        "signed by 2 of",
        "RIVAL",
        "may admit 3",
        "names acme-* in npm belongs to reef",
        "everything in docker",
        "Evicted: cccccccccccc (stolen)",
        "abababababab: Proposed",
    ):
        assert words in lines
    versions = text(roots_table(FOUND))
    assert "lacks 1" in versions
    assert "in force" in versions


def test_wrong_usage_is_told_before_the_node_is_asked() -> None:
    assert CliRunner().invoke(reserve, ["npm:acme-"]).exit_code == 2
    assert CliRunner().invoke(roles, ["--role", "mirror"]).exit_code == 2


def test_every_command_has_an_example() -> None:
    for command in COMMANDS:
        assert (command.epilog or "").startswith("Example: atoll mesh")
        assert CliRunner().invoke(command, ["--help"]).exit_code == 0
