"""Multicast DNS: nodes of one local network find each other.  Spec: docs/mesh.md §11.

python-zeroconf speaks asyncio, so it runs on an event loop of its own, in a thread of its own.  It
is imported when the first announcement is made, and never where ``mesh.mdns`` is off.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
import trio

from mesh import announcement
from mesh.announcement import NAMES_MAX, SERVICE, Sighting

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf

ASK_MS = 3000  # milliseconds that an announcer has to give its details
ASKED_MAX = 32  # questions under way
CHANGES_MAX = 50  # a second that are looked at: a flood costs no more
STOP_MAX = 2.0  # seconds for the farewell
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """An announcement, or with ``sighting`` None the end of one."""

    name: str
    sighting: Sighting | None


def interfaces() -> tuple[str, ...]:
    """Return the addresses of this machine that others may dial, IPv4 first."""
    import ifaddr  # not needed by nodes that listen on one address

    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            address = ipaddress.ip_address(each.ip if isinstance(each.ip, str) else each.ip[0])
            if not (address.is_loopback or address.is_link_local):
                found.append(str(address))
    return tuple(sorted(dict.fromkeys(found), key=lambda host: ":" in host))


class Lan:
    """One node on the local network: it announces itself, and hears others."""

    def __init__(self, mesh: bytes, node: bytes, addresses: Sequence[str]) -> None:
        parts = [urlsplit(each) for each in addresses]
        hosts = [(p.hostname, p.port) for p in parts if p.scheme == "tls" and p.hostname and p.port]
        self._hosts = [host for host, _ in hosts if _is_v4(host)]
        self._port = hosts[0][1] if hosts else 0
        self._text = announcement.properties(mesh, node)
        self._name = f"{node.hex()[:24]}.{SERVICE}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._stop: asyncio.Event | None = None
        self._asked: set[asyncio.Task[None]] = set()
        self._names: set[str] = set()
        self._second, self._changes = 0, 0
        self._tell: Callable[[Heard], None] = lambda _heard: None

    async def run(self, heard: Callable[[Heard], None]) -> None:
        """Announce and listen until cancelled.  Raises OSError where multicast does not work."""
        if not self._hosts:
            await trio.sleep_forever()
        token = trio.lowlevel.current_trio_token()

        def tell(said: Heard) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(heard, said)

        self._tell = tell
        ended = trio.Event()
        failure: list[OSError] = []

        def work() -> None:
            try:
                asyncio.run(self._work())
            except OSError as error:
                failure.append(error)
            finally:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(ended.set)

        threading.Thread(target=work, name="mdns", daemon=True).start()
        try:
            await ended.wait()
        finally:
            self._tell = lambda _heard: None
            self._end()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_MAX):
                await ended.wait()
        if failure:
            raise failure[0]

    def _end(self) -> None:
        self._stopping.set()
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stop.set)

    # --- in the thread of asyncio ----------------------------------------------------------------
    async def _work(self) -> None:
        from zeroconf import Error, IPVersion, ServiceInfo
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if self._stopping.is_set():
            return
        network = AsyncZeroconf(interfaces=list(self._hosts), ip_version=IPVersion.V4Only)
        try:
            info = ServiceInfo(
                SERVICE,
                self._name,
                port=self._port,
                parsed_addresses=list(self._hosts),
                properties=dict(self._text),
                server=f"{self._name[:24]}.local.",
            )
            browser = AsyncServiceBrowser(network.zeroconf, SERVICE, handlers=[self._changed])
            await network.async_register_service(info, allow_name_change=True)
            await self._stop.wait()
            await browser.async_cancel()
        except Error as error:  # such as a name that others claim again and again
            raise OSError(str(error) or type(error).__name__) from error
        finally:
            for task in list(self._asked):
                task.cancel()
            await network.async_close()  # says farewell

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        from zeroconf import ServiceStateChange

        if state_change is ServiceStateChange.Removed:
            if name in self._names:
                self._names.discard(name)
                self._tell(Heard(name, None))
        elif self._room() and (name in self._names or len(self._names) < NAMES_MAX):
            task = asyncio.ensure_future(self._ask(zeroconf, name))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    def _room(self) -> bool:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._changes = second, 0
        self._changes += 1
        return self._changes <= CHANGES_MAX and len(self._asked) < ASKED_MAX

    async def _ask(self, zeroconf: Zeroconf, name: str) -> None:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf, ASK_MS):
            return
        hosts = info.parsed_addresses(IPVersion.All)
        sighting = announcement.read(info.properties, hosts, info.port)
        if sighting is not None:
            self._names.add(name)
            self._tell(Heard(name, sighting))


def _is_v4(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 4
    except ValueError:
        return False


def available(addresses: Sequence[str]) -> bool:
    """Tell whether anybody else could hear an announcement: loopback is for tests."""
    hosts = [urlsplit(each).hostname or "" for each in addresses]
    return any(_is_v4(host) and not ipaddress.ip_address(host).is_loopback for host in hosts)


async def announce(lan: Lan, heard: Callable[[Heard], None]) -> None:
    """Run a Lan; where multicast does not work, say so once and do without."""
    try:
        await lan.run(heard)
    except OSError as error:
        log.warning("mesh.no_mdns", why=str(error))
