"""What goes wrong in a history: links, hosts, disks and clocks.  Every fault ends by itself.

A *trap* is a crash at a chosen moment of a node's own work: just before or just after one of its
next accesses to database or disk, wherever in its code that is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from simulations.disk import Disk
from simulations.network import Network
from simulations.node import Node
from simulations.plan import Step
from simulations.world import World

LOSS_USUAL = 0.03  # share of lost segments on the worst link without a fault


class Faults:
    """Strikes nodes and the links between them.  ``revive`` starts a node that has crashed."""

    def __init__(
        self, world: World, network: Network, nodes: Sequence[Node], revive: Callable[[int], None]
    ) -> None:
        self.world, self.network, self.nodes, self._revive = world, network, nodes, revive

    def strike(self, step: Step) -> None:
        """Do what a step says, and undo it later."""
        act: Callable[..., None] = getattr(self, step.what)
        act(*step.args)

    # --- links ---------------------------------------------------------------------------------
    def cut(self, one: int, two: int, duration: float) -> None:
        """Let nothing pass between two nodes."""
        self._cut([(one, two), (two, one)], duration)

    def oneway(self, one: int, two: int, duration: float) -> None:
        """Let nothing pass in one direction."""
        self._cut([(one, two)], duration)

    def part(self, group: Sequence[int], duration: float) -> None:
        """Let nothing pass between some nodes and all others."""
        others = [number for number in range(len(self.nodes)) if number not in group]
        ways = [(a, b) for a in group for b in others] + [(b, a) for a in group for b in others]
        self._cut(ways, duration)

    def _cut(self, ways: Sequence[tuple[int, int]], duration: float) -> None:
        names = [(self.nodes[one].name, self.nodes[two].name) for one, two in ways]
        for way in names:
            self.network.cut(*way, +1)

        def heal() -> None:
            for way in names:
                self.network.cut(*way, -1)

        self.world.after(duration, heal)

    def forget(self, one: int, two: int) -> None:
        """Lose every stream between two nodes; neither is told."""
        self.network.forget(self.nodes[one].name, self.nodes[two].name)

    def forgetful(self, number: int) -> None:
        """The box before a node has started again: it knows none of the node's connections."""
        for other in self.nodes:
            self.network.forget(self.nodes[number].name, other.name)

    def halfopen(self, one: int, two: int) -> None:
        """Swallow for ever what one says to another on the streams they have now."""
        self.network.forget(self.nodes[one].name, self.nodes[two].name, both=False)

    def slow(self, one: int, two: int, duration: float, factor: float) -> None:
        """Let everything take longer in one direction."""
        path = self.network.paths.get((self.nodes[one].name, self.nodes[two].name))
        if path is not None:
            path.slowdown *= factor
            self.world.after(duration, lambda: setattr(path, "slowdown", path.slowdown / factor))

    def loss(self, one: int, two: int, duration: float, share: float) -> None:
        """Lose segments in one direction: they come late."""
        path = self.network.paths.get((self.nodes[one].name, self.nodes[two].name))
        if path is not None:
            before, path.loss = path.loss, share
            usual = min(before, LOSS_USUAL)
            self.world.after(duration, lambda: setattr(path, "loss", usual))

    # --- hosts ---------------------------------------------------------------------------------
    def crash(self, number: int, downtime: float) -> None:
        """Take a node down, between two of its events."""
        node = self.nodes[number]
        if node.alive:
            node.crash(self.world.rng)
            self.world.after(downtime, lambda: self._revive(number))

    def trap(self, number: int, accesses: int, downtime: float) -> None:
        """Take a node down in the middle of what it does then."""
        disk = self.nodes[number].disk
        disk.trap = accesses
        disk.sprung = partial(self.crash, number, downtime)
        self.world.after(downtime, lambda: setattr(disk, "trap", 0))  # it has had its chance

    def clock(self, number: int, duration: float, jump: float) -> None:
        """Set a node's clock wrong for a while."""
        node = self.nodes[number]
        node.steady = False
        node.skew += jump
        self.world.after(duration, lambda: setattr(node, "skew", node.skew - jump))

    # --- disks ---------------------------------------------------------------------------------
    def full(self, number: int, duration: float) -> None:
        """No space is left."""
        self._hurt(number, "full", duration)

    def unwritable(self, number: int, duration: float) -> None:
        """Writes fail: EIO."""
        self._hurt(number, "unwritable", duration)

    def unreadable(self, number: int, duration: float) -> None:
        """Reads fail: EIO."""
        self._hurt(number, "unreadable", duration)

    def _hurt(self, number: int, what: str, duration: float) -> None:
        disk: Disk = self.nodes[number].disk
        setattr(disk, what, getattr(disk, what) + 1)
        self.world.after(duration, lambda: setattr(disk, what, getattr(disk, what) - 1))


FAULTS = frozenset(
    name for name in vars(Faults) if not name.startswith("_") and name != "strike"
)  # a plan may also name "flap", and draws it as cuts
