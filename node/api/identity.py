"""Who calls the management API."""

from __future__ import annotations

from collections.abc import Mapping

from node.access.gate import Caller
from node.core import Core
from store.errors import UnauthorizedError


async def identify(core: Core, headers: Mapping[str, str], address: str) -> Caller:
    """The caller behind a request; the control secret makes it the operator."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme == "Control" and core.control.accepts(value.strip(), address):
        return core.operator()
    caller = await core.accounts.caller(headers, address=address, native=False)
    if caller.access is not None:  # minted for one protocol's repositories, or for refreshing
        raise UnauthorizedError("this token is not for the management API")
    return caller
