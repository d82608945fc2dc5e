"""What this node knows of when a blob was last read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.usage import UsageCounter
from store.digest import Digest
from store.inventory import Inventory


async def last_read(inventory: Inventory, digests: Sequence[Digest]) -> Mapping[Digest, float]:
    """When each blob came here or was last read here, seconds since 1970, as far as it is known.

    Only this node's own readers count.
    """
    asked = {each.raw: each for each in digests if each.algorithm == "sha256"}
    rows = await inventory.rows(asked)
    return {asked[blob]: row.used for blob, row in rows.items()}


async def last_told(
    usage: UsageCounter, repository: str, packages: Sequence[str], versions: Sequence[str]
) -> Mapping[tuple[str, str], float]:
    """When each (package, version) was last sent by any node, as far as the ledger tells."""
    await usage.keep()
    return await usage.kept.last(repository, packages, versions)
