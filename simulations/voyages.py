"""Travels of couriers between nodes that are never up together.

Whoever leaves closes its links, and is linked with nobody on the way; at the other place it dials.
They travel as long as a history lasts, after its last fault, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulations.network import Network
from simulations.node import Node
from simulations.plan import Voyage
from simulations.world import World

ON_THE_WAY = 1.0  # seconds


class Voyages:
    """Everybody who travels."""

    def __init__(
        self, world: World, network: Network, nodes: Sequence[Node], voyages: Sequence[Voyage]
    ) -> None:
        self._world, self._network, self._nodes = world, network, nodes
        self._voyages = voyages
        couriers = frozenset(nodes[voyage.courier].id for voyage in voyages)
        everybody = {node.id: node for node in nodes}
        for node in nodes:
            node.couriers, node.peers = couriers, everybody

    def begin(self) -> None:
        """Let each begin at one end or the other."""
        for number, voyage in enumerate(self._voyages):
            self._cut(voyage, voyage.home, +1)
            self._cut(voyage, voyage.far, +1)
            ends = (voyage.home, voyage.far) if number % 2 else (voyage.far, voyage.home)
            self._arrive(voyage, *ends)

    def owed(self, number: int, blob: bytes) -> bool:
        """Tell whether a node that wants a blob lacks what it is to get.

        Couriers carry what a visible file names (not what was deleted, nor what lost to a rival),
        from where they call: what nobody wants there, or not any more, need not come there first.
        """
        node = self._nodes[number]
        homes = [self._nodes[each.home] for each in self._voyages if each.far == number]
        if blob in node.disk.whole or not homes:
            return blob not in node.disk.whole
        called_at = any(blob in home.disk.whole for home in homes)
        return called_at and node.life.porter.named(blob) is not None

    def ends_at(self, number: int) -> bool:
        """Tell whether couriers call at a node: what is wanted there is, while it is down, too."""
        return any(number in (voyage.home, voyage.far) for voyage in self._voyages)

    def _cut(self, voyage: Voyage, end: int, change: int) -> None:
        one, two = self._nodes[voyage.courier].name, self._nodes[end].name
        self._network.cut(one, two, change)
        self._network.cut(two, one, change)

    def _arrive(self, voyage: Voyage, here: int, there: int) -> None:
        courier = self._nodes[voyage.courier]
        courier.note(f"comes to n{here}")
        self._cut(voyage, here, -1)
        if courier.alive:
            courier.life.links.hurry()
        self._world.after(voyage.stay, lambda: self._leave(voyage, here, there))

    def _leave(self, voyage: Voyage, here: int, there: int) -> None:
        courier = self._nodes[voyage.courier]
        courier.note(f"leaves n{here}")
        if courier.alive:
            connection = courier.life.links.control.get(self._nodes[here].id)
            if connection is not None:
                connection.close("travels on")
        self._cut(voyage, here, +1)
        self._world.after(ON_THE_WAY, lambda: self._arrive(voyage, there, here))
