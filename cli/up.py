"""Starting a node."""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path

import click
import trio

from cli.connection import configuration, sole
from node.config import Config
from store.errors import RegistryError


@click.command(epilog="Example: atoll up --data ./node --http 127.0.0.1:8080")
@click.option("--data", metavar="DIR", help="Data directory; made if it is not there.")
@click.option("--http", metavar="HOST:PORT", help="Where package clients connect; port 0 is free.")
@click.option("--mesh", metavar="HOST:PORT", help="Where peers connect; port 0 is free.")
@click.option("--join", metavar="INVITE", help="Join the mesh of this invitation.")
@click.option("--config", "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@click.option("--site", metavar="NAME", help="The site this node stands at.")
@click.option("--name", metavar="NAME", help="A name for people.")
def up(
    data: str | None,
    http: str | None,
    mesh: str | None,
    join: str | None,
    file: str | None,
    site: str | None,
    name: str | None,
) -> None:
    """Run a node in the foreground until SIGTERM or SIGINT."""
    flags = {"http.listen": http, "mesh.listen": mesh, "mesh.site": site, "mesh.name": name}
    config = configuration(data, file, **flags)
    sys.exit(start(config, join or ""))


def start(config: Config, invitation: str) -> int:
    """Run the node; the exit code is 0 after a clean stop."""
    if not invitation:  # which may keep the node waiting for days
        gc.disable()  # nothing that is made while starting is garbage
    from node import heap
    from node.logs import configure

    heap.prepare()
    configure(config.log.level, config.log.format)
    try:
        trio.run(_run, config, invitation)
    except BaseExceptionGroup as group:
        error = sole(group)
        if isinstance(error, (RegistryError, OSError)):
            click.echo(f"atoll: {error}", err=True)
            return 1
        raise
    except OSError as error:
        click.echo(f"atoll: {error}", err=True)
        return 1
    return 0


async def _run(config: Config, invitation: str) -> None:
    from node.run import run

    stop = trio.Event()

    async def watch() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                if stop.is_set():
                    raise KeyboardInterrupt  # asked twice: do not wait for anybody
                stop.set()

    def ready(url: str) -> None:
        gc.freeze()  # what lives as long as the node need not be looked through again
        gc.enable()
        click.echo(f"atoll: ready {url}")
        sys.stdout.flush()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await run(config, stop=stop, ready=ready, invitation=invitation)
        nursery.cancel_scope.cancel()


@click.command(epilog="Example: atoll init --data ./node")
@click.option("--data", metavar="DIR", help="Data directory; made if it is not there.")
def init(data: str | None) -> None:
    """Make a node's key, its mesh of one, an administrator and the default repositories."""
    config = configuration(data)
    trio.run(_initialise, config)
    click.echo(
        f"{Path(config.data).absolute()} is ready; start it with: atoll up --data {config.data}"
    )


async def _initialise(config: Config) -> None:
    from node.service import open_core

    async with open_core(config):
        await trio.lowlevel.checkpoint()
