"""Running a node: HTTP front, control connection, mesh and background services in one nursery."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import trio

from node.access.rates import RateLimit, Rates
from node.accesslog import AccessLog
from node.background import Background
from node.config import Config, split_address
from node.core import VERSION, Core
from node.front import Front, Health, LazyApp
from node.http.asgi import App
from node.http.limits import Limits
from node.http.server import Binding, Bound, serve
from node.packages.app import PackageApp, Parts
from node.packages.caution import Refusals
from node.packages.observe import Observation
from node.packages.urls import ExternalUrl
from node.routing import Router
from node.service import open_core
from node.swarm import start_mesh
from store.errors import RegistryError

Ready = Callable[[str], None]
WARM_AFTER = 1.0  # seconds after the node is ready; whoever needs the API before, gets it
PROBE = b"atoll: what the health check writes\n".ljust(4096)  # a block, which a full disk refuses


async def run(config: Config, *, stop: trio.Event, ready: Ready, invitation: str = "") -> None:
    """Run a node until ``stop`` is set; ``ready`` gets its URL when it answers.

    A crash in any service cancels the others and propagates: a half-alive node helps nobody.
    """
    joining = bool(invitation) and not (config.path / "provisioned").exists()
    async with open_core(config, joining=joining) as core:
        front = build_front(core)
        try:
            async with trio.open_nursery() as services:
                starting = trio.CancelScope()
                services.start_soon(_cancel_when, stop, starting)
                with starting:  # joining takes as long as the inviter is away
                    core.mesh = await start_mesh(core, services, invitation)
                    services.start_soon(Background(core).run)
                    core.http_urls = await _listen(core, front, services, stop)
                if not starting.cancelled_caught:
                    await _serve_until(stop, core, front, services, ready)
                services.cancel_scope.cancel()
        finally:
            core.control.withdraw(config.path)


async def _warm(front: Front) -> None:
    """Import the management API once the first requests have had the processor to themselves."""
    await trio.sleep(WARM_AFTER)
    await front.warm()


async def _cancel_when(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


async def _serve_until(
    stop: trio.Event, core: Core, front: Front, services: trio.Nursery, ready: Ready
) -> None:
    ready(core.http_urls[0])
    services.start_soon(_warm, front)
    await stop.wait()
    core.streams.stopping.set()
    drain = core.config.http.drain
    with trio.CancelScope(shield=True, deadline=trio.current_time() + drain):
        await core.http_stopped.wait()


async def run_control(core: Core, *, task_status: trio.TaskStatus[str]) -> None:
    """Serve only the control connection, for commands while the node is not running."""
    front, stop = build_front(core), trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(partial(_serve_control, core, front, stop))
            task_status.started(bound)
    finally:
        core.control.withdraw(core.config.path)


async def _listen(core: Core, front: App, services: trio.Nursery, stop: trio.Event) -> list[str]:
    http = core.config.http
    host, port = split_address(http.listen)
    bindings = [Binding(host=host, port=port, tls=await _tls(core))]
    limits = Limits(
        connections_max=http.connections_max,
        peer_connections_max=http.connections_per_address_max,
    )
    await services.start(partial(_serve_control, core, front, stop))

    async def public(*, task_status: trio.TaskStatus[tuple[Bound, ...]]) -> None:
        try:
            await serve(
                front, bindings, stop=stop, drain=http.drain, limits=limits, task_status=task_status
            )
        finally:
            core.http_stopped.set()

    bound: tuple[Bound, ...] = await services.start(public)
    return [each.url for each in bound]


async def _serve_control(
    core: Core, front: App, stop: trio.Event, *, task_status: trio.TaskStatus[str]
) -> None:
    """Listen on a loopback port of its own, whatever the public side does."""
    async with trio.open_nursery() as nursery:
        bound: tuple[Bound, ...] = await nursery.start(
            partial(serve, front, [Binding(host="127.0.0.1", port=0)], stop=stop, drain=1.0)
        )
        core.control.publish(core.config.path, bound[0].url)
        task_status.started(bound[0].url)


async def _tls(core: Core) -> ssl.SSLContext | None:
    http = core.config.http
    if http.tls == "off":
        return None
    from node.http.tls import own_certificate, server_context  # what it imports is heavy

    if http.tls == "files":
        return server_context(Path(http.tls_certificate), Path(http.tls_key))
    host, _ = split_address(http.listen)
    pair = await trio.to_thread.run_sync(own_certificate, core.config.path / "tls", [host])
    return server_context(*pair)


def build_front(core: Core) -> Front:
    """Wire the apps that answer HTTP."""
    urls = ExternalUrl(core.config.http.external_url, core.config.http.trusted_proxies)
    rates = _rates(core)
    observer = partial(_observe, core, AccessLog())
    packages = PackageApp(
        Parts(
            router=Router(core.formats),
            accounts=core.accounts,
            gate=core.gate,
            blobs=core.blobs,
            publisher=core.publisher,
            sessions=core.sessions,
            urls=urls,
            observer=observer,
            registry=core,
            repositories=core,
            rates=rates,
            refusals=Refusals(core.audit),
            upload_max=core.config.http.upload_max,
        )
    )

    def build_api() -> App:
        from node.api.app import build  # a second of imports, so not before it is needed

        return cast("App", build(core, urls, rates))

    async def may_see_metrics(headers: dict[str, str], address: str) -> bool:
        try:
            caller = await core.accounts.caller(headers, address=address, native=True)
            core.gate.require_management(caller)
        except RegistryError:
            return False
        return True

    api = LazyApp(build_api)
    return Front(packages, api, _health(core), core.metrics, may_see_metrics, observer)


def _rates(core: Core) -> Rates:
    access = core.config.access
    return Rates(
        RateLimit(access.writes_per_minute, 60.0, "writes"),
        RateLimit(access.searches_per_minute, 60.0, "searches"),
    )


def _health(core: Core) -> Health:
    async def database() -> None:
        await core.ledger.heads()

    async def storage() -> None:
        async with core.blobs.store.ingest() as ingest:
            await ingest.write(PROBE)

    return Health(VERSION, {"database": database, "storage": storage})


def _observe(core: Core, log_access: AccessLog, seen: Observation) -> None:
    core.metrics.request(seen)
    core.usage.seen(seen)
    log_access(seen)
