"""Publishing what search should find."""

from __future__ import annotations

import json
from typing import Any

from store.facts import Fact, File, Publish
from tests.node.world import World


async def blob(node: World, data: bytes) -> str:
    """Store bytes; give their digest."""
    async with node.core.blobs.ingest() as ingest:
        await ingest.write(data)
    return str(ingest.result.digest)


async def npm(
    node: World, name: str, version: str, repository: str = "npm", **manifest: Any
) -> Publish:
    """Publish a version with a manifest, as the format would."""
    tarball = f"{name} {version}".encode()
    told = json.dumps({"name": name, "version": version, **manifest}).encode()
    path = f"{name}/-/{name.rpartition('/')[2]}-{version}"
    sums = (("sha1", "1" * 39 + version[0]), ("sha512", "5" * 127 + version[0]))
    files = (
        File(f"{path}.tgz", "tarball", await blob(node, tarball), len(tarball), checksums=sums),
        File(f"{path}.json", "manifest", await blob(node, told), len(told)),
    )
    fact = Publish(repository, name, version, files)
    await append(node, fact)
    return fact


async def append(node: World, *facts: Fact) -> None:
    """Write facts."""
    await node.core.ledger.append(list(facts), actor="test")
