"""What one life of a simulated node has in memory, and how others see the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from simulations import couriers, joining, ledgers, links, transfers
from simulations.disk import Disk, DiskKeys, at_once
from simulations.network import Network
from simulations.world import World
from store.identity import Identity
from store.ledger import Ledger


class Shell(ledgers.Shell, transfers.Shell, links.Hooks, joining.Shell, couriers.Shell, Protocol):
    """All that a life needs of its node."""


class Life:
    """The cores, wired.  A crash takes all of it."""

    def __init__(
        self,
        world: World,
        network: Network,
        place: str,
        places: dict[bytes, str],
        disk: Disk,
        identity: Identity,
        shell: Shell,
        *,
        uplink_cap: float = 0.0,
    ) -> None:
        self.ledger = Ledger(disk.port, DiskKeys(disk, identity), clock=shell.clock)
        at_once(self.ledger.initialise())
        name = bytes.fromhex(identity.node)
        self.links = links.Links(world, network, place, places, name, shell)
        self.transfers = transfers.Transfers(world, disk, self.links, shell, uplink_cap)
        self.ledgers = ledgers.Ledgers(world, self.ledger, shell)
        self.doors = joining.Doors(world, self.ledger, disk, shell)
        self.porter = couriers.Porter(name, disk, self.transfers, shell)


class Subject(Protocol):
    """A node, for those who watch it or make it lie."""

    world: World
    name: str
    id: bytes
    alive: bool
    lives: int
    disk: Disk
    identity: Identity
    places: dict[bytes, str]
    honest: bool

    @property
    def life(self) -> Life: ...
    def later(self, delay: float, action: Callable[[], None]) -> None: ...
    def note(self, text: str) -> None: ...
    def clock(self) -> float: ...
