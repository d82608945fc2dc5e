"""What this node knows of when a blob was last read, and how often versions were downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.usage import UsageCounter
from store.digest import Digest
from store.inventory import Inventory
from store.usage import Usage


async def last_read(inventory: Inventory, digests: Sequence[Digest]) -> Mapping[Digest, float]:
    """When each blob came here or was last read here, seconds since 1970, as far as it is known.

    Only this node's own readers count.
    """
    asked = {each.raw: each for each in digests if each.algorithm == "sha256"}
    rows = await inventory.rows(asked)
    return {asked[blob]: row.used for blob, row in rows.items()}


async def told(
    usage: UsageCounter, repository: str, packages: Sequence[str], versions: Sequence[str]
) -> Mapping[tuple[str, str], Usage]:
    """How each (package, version) was used on all nodes, as far as the ledger tells."""
    await usage.keep()
    return await usage.kept.totals(repository, packages, versions)
