"""The demo itself: what happens, in order, and what is shown meanwhile."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import trio
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.table import Column, Table

from cli.connection import sole
from cli.demo import clients, samples
from cli.demo.cables import Cable, break_at_random
from cli.demo.nodes import DemoNode
from store.errors import RegistryError

RATE = 25e6  # bytes per second of each cable
KNOWN_MAX = 120.0  # seconds for C to hear of what A published


@dataclass(slots=True)
class Step:
    """One thing that is done, and how it went."""

    what: str
    how: str = ""
    seconds: float = 0.0
    ok: bool | None = None


@dataclass(slots=True)
class Story:
    """What there is to show."""

    cables: list[Cable] = field(default_factory=list[Cable])
    steps: list[Step] = field(default_factory=list[Step])
    refetched: dict[str, int] = field(default_factory=dict[str, int])
    moving: str = ""

    def render(self) -> RenderableType:
        """The live view: cables above, steps below."""
        cables = Table("Cable", "State", Column("Moved", justify="right"), "Outages", "Down")
        for each in self.cables:
            state = "[green]up[/]" if each.up else "[red]cut[/]"
            down = f"{each.down_seconds:.1f} s"
            cables.add_row(each.name, state, decimal(each.moved), str(each.outages), down)
        steps = Table("Step", "How", Column("Seconds", justify="right"), "Bytes")
        for step in self.steps:
            verdict = {None: "…", True: "[green]right[/]", False: "[red]wrong[/]"}[step.ok]
            steps.add_row(step.what, step.how, f"{step.seconds:.1f}", verdict)
        return Group(cables, steps, self.moving)


@click.command(epilog="Example: atoll demo --size 250")
@click.option("--size", default=208, help="Size of the image's layer in MB.", show_default=True)
@click.option("--seed", default=None, type=int, help="Repeat the outages of an earlier run.")
@click.option("--keep", is_flag=True, help="Keep the nodes' data directories.")
def demo(size: int, seed: int | None, *, keep: bool) -> None:
    """Run three nodes A–B–C whose cables break at random; publish to A, install from C."""
    seed = seed if seed is not None else time.time_ns() % 10_000
    folder = Path(tempfile.mkdtemp(prefix="atoll-demo-"))
    click.echo(f"Outages by seed {seed}; data in {folder}")
    story = Story()
    try:
        trio.run(_run, folder, story, size * 1_000_000, random.Random(seed))  # noqa: S311  cuts cables, guards no secret
    except BaseExceptionGroup as group:
        error = sole(group)
        if not isinstance(error, RegistryError):
            raise
        raise error from group
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    _closing(story)


async def _run(folder: Path, story: Story, size: int, rng: random.Random) -> None:
    a, b, c = (DemoNode(name, folder) for name in "abc")
    with Live(get_renderable=story.render, console=Console(stderr=True), refresh_per_second=5):
        async with trio.open_nursery() as nursery:
            await b.start(nursery)
            for end, name in ((a, "A–B"), (c, "B–C")):
                cable = Cable(name, ("127.0.0.1", b.mesh_port), RATE)
                story.cables.append(cable)
                port = await nursery.start(cable.run)
                invitation = await trio.to_thread.run_sync(b.invitation, port, end.name)
                await end.start(nursery, join=invitation)
            nursery.start_soon(partial(_watch, c, story))
            nursery.start_soon(break_at_random, story.cables, rng)
            await _tell(folder, story, a, c, size)
            nursery.cancel_scope.cancel()


async def _tell(folder: Path, story: Story, a: DemoNode, c: DemoNode, size: int) -> None:
    things = await trio.to_thread.run_sync(_samples, folder, size)
    wheel, tarball, image = things
    source, target = _site(a, folder / "publisher"), _site(c, folder / "consumer")
    here = await trio.to_thread.run_sync(source)
    steps: list[tuple[str, str, Callable[[], str]]] = [
        ("publish the wheel to A", "", partial(clients.publish_wheel, here, wheel)),
        ("publish the npm package to A", "", partial(clients.publish_npm, here, tarball)),
        ("push the image to A", "", partial(clients.publish_image, here, image)),
    ]
    for what, _, work in steps:
        await _do(story, what, work)
    there = await trio.to_thread.run_sync(target)
    await _known(story, there)
    await _do(story, "install the wheel from C", partial(clients.install_wheel, there, wheel))
    await _do(story, "install the package from C", partial(clients.install_npm, there, tarball))
    await _do(story, "pull the image from C", partial(clients.install_image, there, image))


def _samples(folder: Path, size: int) -> tuple[Path, Path, samples.Image]:
    return (
        samples.wheel(folder, 5_000_000),
        samples.npm_tarball(folder, 5_000_000),
        samples.image(folder, size),
    )


def _site(node: DemoNode, folder: Path) -> Callable[[], clients.Site]:
    def make() -> clients.Site:
        folder.mkdir()
        body = {"name": "demo", "scopes": ["write"]}
        token = node.call("POST", "/auth/tokens", body)["token"]
        return clients.Site(node.url, token, folder)

    return make


async def _do(story: Story, what: str, work: Callable[[], str]) -> None:
    step = Step(what)
    story.steps.append(step)
    began = trio.current_time()
    try:
        step.how = await trio.to_thread.run_sync(work)
        step.ok = True
    except RegistryError:
        step.ok = False
        raise
    finally:
        step.seconds = trio.current_time() - began


async def _known(story: Story, there: clients.Site) -> None:
    """Wait until the ledger has carried the last publish to C."""

    def look() -> bool:
        try:
            there.request("HEAD", "/v2/docker/atoll-demo/manifests/1")
        except RegistryError:
            return False
        return True

    step = Step("C hears of it", "the ledger, over B")
    story.steps.append(step)
    began = trio.current_time()
    while not await trio.to_thread.run_sync(look):
        if trio.current_time() - began > KNOWN_MAX:
            step.ok = False
            raise RegistryError(f"C has not heard of the image in {KNOWN_MAX:.0f} s")
        await trio.sleep(0.2)
        step.seconds = trio.current_time() - began
    step.ok = True


async def _watch(node: DemoNode, story: Story) -> None:
    """Follow what is on its way to C."""
    while True:
        try:
            found = await trio.to_thread.run_sync(node.call, "GET", "/mesh/transfers")
        except RegistryError:
            found = {"items": []}
        for each in found["items"]:
            story.refetched[each["blob"]] = each["refetched"] + each["duplicated"]
        story.moving = "\n".join(
            f"{each['blob'][:19]}…  {decimal(each['verified'])} of {decimal(each['size'])}"
            for each in found["items"]
        )
        await trio.sleep(0.3)


def _closing(story: Story) -> None:
    """The final table."""
    table = Table("Cable", "Bytes moved", "Outages", "Time down", title="The cables")
    for each in story.cables:
        down = f"{each.down_seconds:.1f} s"
        table.add_row(each.name, decimal(each.moved), str(each.outages), down)
    console = Console()
    console.print(table)
    done = Table("Step", "How", "Seconds", "Bytes", title="The packages")
    for step in story.steps:
        done.add_row(step.what, step.how, f"{step.seconds:.1f}", "right" if step.ok else "wrong")
    console.print(done)
    console.print(f"Fetched twice by C: {decimal(sum(story.refetched.values()))}")
