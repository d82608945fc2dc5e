"""Which addresses an upstream may have: the public ones, and what the operator allows.

Whoever may name an upstream, or answer for one with a redirect or a DNS record, could otherwise
make this node read what only it can reach: the machine's own services, its neighbours, a cloud's
metadata.  So names are resolved here, every address is judged, and the connection goes to the very
address that was judged: a second look-up with another answer (DNS rebinding) never happens.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from store.errors import UpstreamDeniedError, UpstreamError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
ADDRESSES_MAX = 16  # of one name


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, in the resolver's order.  Raises UpstreamError."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UpstreamError(f"{host}: {error}") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))[:ADDRESSES_MAX]


class Guard:
    """Judges addresses.  ``allow`` holds networks, addresses and host names."""

    def __init__(self, allow: Iterable[str] = (), resolver: Resolve = resolve) -> None:
        """Raises ValueError for a network with host bits or an impossible prefix."""
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        self._resolve = resolver
        for each in allow:
            network = as_network(each)
            if network is not None:
                self._networks.append(network)
            else:
                self._hosts.add(each.lower().rstrip("."))

    def permits(self, host: str, address: str) -> bool:
        """Tell whether a connection to this address of this host may be made."""
        if host.lower().rstrip(".") in self._hosts:
            return True
        found = _read(address)
        if found is None:
            return False
        if any(found in network for network in self._networks if network.version == found.version):
            return True
        return found.is_global and not found.is_multicast

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The permitted addresses of a host.  Raises UpstreamDeniedError, UpstreamError."""
        found = await self._resolve(host, port)
        permitted = [each for each in found if self.permits(host, each)]
        if not permitted:
            raise UpstreamDeniedError(
                f"{host} is not a public address; upstream.allow in this node's configuration "
                "lists the private ones that may be asked"
            )
        return permitted


def as_network(text: str) -> Network | None:
    """Read a network or address; None for a host name.  Raises ValueError for a bad network."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        if "/" in text or ":" in text:
            raise
        return None


def _read(text: str) -> Address | None:
    """An address, out of the IPv6 forms that only wrap an IPv4 one."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found.sixtofour is not None:
            return found.sixtofour
        if found in NAT64:
            return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found
