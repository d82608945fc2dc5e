"""The mesh as a service of the node."""

from __future__ import annotations

import trio

from node.core import Core


async def start_mesh(core: Core, services: trio.Nursery, invitation: str) -> None:
    """Start the mesh."""
