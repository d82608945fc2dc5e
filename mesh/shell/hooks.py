"""What the links tell the rest of the mesh."""

from __future__ import annotations

from typing import Protocol

from mesh.link import JoinAsked
from mesh.messages import Message
from mesh.shell.connection import Connection


class Hooks(Protocol):
    """What happens on links, for the rest of the mesh."""

    def linked(self, peer: bytes) -> None:
        """A control link is up."""
        ...

    def unlinked(self, peer: bytes, reason: str) -> None:
        """The control link is gone."""
        ...

    def moved(self, peer: bytes) -> None:
        """The control link goes on over another path; nothing is lost."""
        ...

    def detours(self, peer: bytes) -> tuple[str, ...]:
        """Return addresses through relays by which the peer may be met."""
        ...

    async def relay_socket(self, connection: Connection) -> None:
        """A peer has brought a relay socket; it is closed when this returns."""
        ...

    def bulk_opened(self, peer: bytes) -> None:
        """A bulk socket is up."""
        ...

    def bulk_closed(self, peer: bytes) -> None:
        """The bulk socket is gone, or could not be had."""
        ...

    async def heard(self, connection: Connection, message: Message) -> None:
        """A peer said something."""
        ...

    async def feed(self, connection: Connection) -> bool:
        """A bulk socket can take more."""
        ...

    async def join_asked(self, connection: Connection, asked: JoinAsked) -> None:
        """A stranger wants to join."""
        ...

    def greet(self, connection: Connection) -> bool:
        """Tell an evicted node that there is news; whether it is one."""
        ...

    async def guest(self, connection: Connection, message: Message) -> None:
        """One who is no member says something."""
        ...

    def key_of(self, node: bytes) -> bytes | None:
        """Return a member's current key."""
        ...

    def follows(self, node: bytes, shown: tuple[bytes, ...], key: bytes) -> bool:
        """Tell whether rotations that a peer shows lead from its key as known here to this one."""
        ...

    def busy(self, peer: bytes) -> bool:
        """Tell whether work is pending for the peer."""
        ...
