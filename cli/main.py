"""The ``atoll`` command.  Each command lives in a module of its own, imported when it is used."""

from __future__ import annotations

import importlib
import sys

import click

from store.errors import (
    DeniedError,
    NotFoundError,
    RegistryError,
    UnauthorizedError,
    UnavailableError,
)

COMMANDS = {
    "up": "cli.up:up",
    "init": "cli.up:init",
    "config": "cli.settings:config",
    "repo": "cli.repositories:repo",
    "user": "cli.users:user",
    "token": "cli.tokens:token",
    "mesh": "cli.mesh:mesh",
    "mirror": "cli.mirror:mirror",
    "search": "cli.search:search",
    "browse": "cli.search:browse",
    "events": "cli.events:events",
    "webhook": "cli.events:webhook",
    "pin": "cli.pins:pin",
    "client": "cli.clients:client",
    "export": "cli.bundles:export",
    "import": "cli.bundles:import_",
    "promote": "cli.promote:promote",
    "retention": "cli.retention:retention",
    "publish": "cli.transfer:publish",
    "get": "cli.transfer:get",
    "backup": "cli.backup:backup",
    "restore": "cli.backup:restore",
    "verify": "cli.verify:verify",
    "doctor": "cli.doctor:doctor",
    "demo": "cli.demo.command:demo",
}
# Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 not reachable now.
EXIT = (
    (NotFoundError, 3),
    (UnauthorizedError, 4),
    (DeniedError, 4),
    (UnavailableError, 5),
    (RegistryError, 1),
)


class LazyGroup(click.Group):
    """A group whose commands are imported only when called: ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Command names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        return command if isinstance(command, click.Command) else None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0.1.0", prog_name="atoll")
def atoll() -> None:
    """Atoll: a package registry in which every node is a whole registry.

    Example: atoll up --data ./node --http 127.0.0.1:8080
    """


def main() -> None:
    """Run, turning errors the node can explain into one line and an exit code."""
    try:
        atoll(prog_name="atoll")
    except RegistryError as error:
        click.echo(f"atoll: {error}", err=True)
        sys.exit(next(code for kind, code in EXIT if isinstance(error, kind)))
    except BrokenPipeError:
        sys.exit(1)
