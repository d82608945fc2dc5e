"""A look at everything a node keeps, told as it goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from node.api.contract import Access, Call, Raw, Table
from node.verification import Verification

table = Table("verification")


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    repair: bool = False


@table.route("POST", "/verify", Access.MANAGE, body=Wish)
async def verify(call: Call) -> Raw:
    """Check blobs, chunk index, ledger and catalog; a JSON object a line, the verdict last."""
    wish: Wish = call.body
    await call.note("node.verify", "repair" if wish.repair else "look")

    async def lines() -> AsyncGenerator[bytes]:
        async for event in Verification(call.core, repair=wish.repair).run():
            yield msgspec.json.encode(event) + b"\n"

    return Raw(media_type="application/x-ndjson", stream=lines())
