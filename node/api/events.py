"""Events: the stream, and webhooks with their deliveries."""

from __future__ import annotations

import time
import uuid
from typing import Annotated

import msgspec

from node.access.gate import Caller
from node.api.contract import Access, Call, Long, Raw, Short, Table
from node.api.identity import identify
from node.directory import WebhookEntry
from node.events.happening import PATTERN_MAX
from node.events.sender import judge_url
from node.events.signing import GRACE, Secrets, make_secret, seal, seal_url, shown, unseal
from node.events.stream import Asked
from store.deliveries import STATES, Delivery
from store.errors import ConflictError, NotFoundError, RejectedError
from store.root import Member

table = Table("events")
Patterns = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=PATTERN_MAX)]],
    msgspec.Meta(max_length=50),
]
Secret = Annotated[str, msgspec.Meta(min_length=16, max_length=255)]
Ids = Annotated[list[int], msgspec.Meta(max_length=1000)]
WEBHOOKS_MAX = 200


class NewWebhook(msgspec.Struct):
    url: Long
    name: Short = ""
    events: Patterns = msgspec.field(default_factory=lambda: ["artifact.*"])
    repositories: Patterns = msgspec.field(default_factory=list[str])
    secret: Secret | None = None  # made here if it is not given
    node: Short = ""  # which member delivers; empty: this one
    is_enabled: bool = True


class WebhookChange(msgspec.Struct):
    url: Long | None = None
    name: Short | None = None
    events: Patterns | None = None
    repositories: Patterns | None = None
    is_enabled: bool | None = None


class NewSecret(msgspec.Struct):
    secret: Secret | None = None


class Redeliver(msgspec.Struct):
    ids: Ids | None = None  # without them every dead one


class WebhookView(msgspec.Struct):
    id: str
    name: str
    url: str
    events: list[str]
    repositories: list[str]
    node: str
    is_enabled: bool
    created_at: float
    created_by: str
    deliveries: dict[str, int] | None = None  # known where it is delivered
    secret: str | None = None  # shown once, when it is made


class WebhooksView(msgspec.Struct):
    items: list[WebhookView]


class DeliveryView(msgspec.Struct):
    id: int
    event_id: str
    event_type: str
    state: str
    attempts: int
    created_at: float
    due_at: float
    ended_at: float
    status: int
    error: str
    body: str


class DeliveriesView(msgspec.Struct):
    items: list[DeliveryView]
    next: int | None


class Redelivered(msgspec.Struct):
    redelivered: int


# --- the stream ---------------------------------------------------------------------------------
@table.route(
    "GET",
    "/events/stream",
    Access.OPEN,
    parameters=("types", "repository", "last_event_id"),
)
async def stream(call: Call) -> Raw:
    """Send events as they happen (text/event-stream); Last-Event-ID resumes."""

    def patterns(name: str) -> list[str]:
        given = [part.strip() for part in call.query.get(name, "").split(",")]
        found = [part for part in given if part]
        if len(found) > 50 or any(len(part) > PATTERN_MAX for part in found):
            raise RejectedError(f"{name}: too many or too long")
        return found

    last = call.headers.get("last-event-id") or call.query.get("last_event_id", "")
    asked = Asked(patterns("types"), patterns("repository"), last)
    core, headers, address = call.core, call.headers, call.address

    async def who() -> Caller:
        return await identify(core, headers, address)

    return Raw(
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        stream=core.streams.listen(who, asked),
    )


# --- webhooks -----------------------------------------------------------------------------------
def _hook(call: Call) -> WebhookEntry:
    found = call.core.directory.get(WebhookEntry, call.params["id"])
    if found is None:
        raise NotFoundError(f"no webhook {call.params['id']!r}")
    return found


def _own(call: Call) -> WebhookEntry:
    """A webhook that this node delivers: only here is it known how that went."""
    found = _hook(call)
    if found.node != call.core.ledger.node:
        raise ConflictError(f"this webhook belongs to node {found.node}: ask there")
    return found


async def _view(call: Call, hook: WebhookEntry, secret: str | None = None) -> WebhookView:
    own = hook.node == call.core.ledger.node
    counts = await call.core.webhooks.queue.counts(hook.id) if own else None
    return WebhookView(
        hook.id,
        hook.name,
        shown(hook.url),
        list(hook.events),
        list(hook.repositories),
        hook.node,
        not hook.disabled,
        hook.created_at,
        hook.created_by,
        counts,
        secret,
    )


def _owner(call: Call, node: str) -> str:
    members: dict[str, Member] = dict(call.core.ledger.authority.members())
    named = [key for key, member in members.items() if node in {key, member.name}]
    if node and len(named) != 1:
        raise RejectedError(f"node: no member {node!r}, or several of that name")
    return named[0] if node else call.core.ledger.node


def _address(call: Call, node: str, url: str) -> str:
    """A webhook's URL, sealed to the member that delivers."""
    return seal_url(url, lambda data: call.core.keys.seal(node, data))


@table.route("GET", "/webhooks", Access.MANAGE, answer=WebhooksView)
async def list_webhooks(call: Call) -> WebhooksView:
    """List the webhooks of the mesh."""
    found = call.core.directory.all(WebhookEntry)
    return WebhooksView([await _view(call, each) for each in found])


@table.route("POST", "/webhooks", Access.MANAGE, body=NewWebhook, answer=WebhookView, status=201)
async def create_webhook(call: Call) -> WebhookView:
    """Make a webhook; its secret is shown in this answer and never again."""
    body: NewWebhook = call.body
    judge_url(body.url)
    if len(call.core.directory.all(WebhookEntry)) >= WEBHOOKS_MAX:
        raise ConflictError(f"there are {WEBHOOKS_MAX} webhooks")
    secret, node = body.secret or make_secret(), _owner(call, body.node)
    hook = WebhookEntry(
        id=uuid.uuid4().hex,
        name=body.name,
        url=shown(body.url),
        address=_address(call, node, body.url),
        node=node,
        events=tuple(body.events),
        repositories=tuple(body.repositories),
        sealed=seal(Secrets(secret), lambda data: call.core.keys.seal(node, data)),
        disabled=not body.is_enabled,
        created_at=time.time(),
        created_by=call.caller.name,
    )
    await call.append(call.core.directory.change(hook.id, hook))
    await call.note("webhook.create", hook.id)
    return await _view(call, hook, secret)


@table.route("GET", "/webhooks/{id}", Access.MANAGE, answer=WebhookView)
async def get_webhook(call: Call) -> WebhookView:
    """Show a webhook, without its secret, and of its URL only where it leads."""
    return await _view(call, _hook(call))


@table.route("PATCH", "/webhooks/{id}", Access.MANAGE, body=WebhookChange, answer=WebhookView)
async def change_webhook(call: Call) -> WebhookView:
    """Change where a webhook goes, what it tells of, or whether it does."""
    hook, body = _hook(call), call.body
    given: dict[str, object] = {} if body.name is None else {"name": body.name}
    if body.url is not None:
        judge_url(body.url)
        given |= {"url": shown(body.url), "address": _address(call, hook.node, body.url)}
    given |= {
        name: tuple(getattr(body, name))
        for name in ("events", "repositories")
        if getattr(body, name) is not None
    }
    if body.is_enabled is not None:
        given["disabled"] = not body.is_enabled
    changed = msgspec.structs.replace(hook, **given)
    await call.append(call.core.directory.change(hook.id, changed))
    await call.note("webhook.change", hook.id)
    call.core.webhooks.wake()
    return await _view(call, changed)


@table.route("DELETE", "/webhooks/{id}", Access.MANAGE, status=204)
async def delete_webhook(call: Call) -> None:
    """Delete a webhook and what waits for it."""
    hook = _hook(call)
    await call.append(call.core.directory.remove(WebhookEntry, hook.id))
    await call.core.webhooks.queue.forget(hook.id)
    await call.note("webhook.delete", hook.id)


@table.route("POST", "/webhooks/{id}/secret", Access.MANAGE, body=NewSecret, answer=WebhookView)
async def change_secret(call: Call) -> WebhookView:
    """Give a webhook another secret, shown once; for a day the former one signs as well."""
    hook = _hook(call)
    secret = call.body.secret or make_secret()
    held = Secrets(secret)
    if hook.node == call.core.ledger.node:
        former = unseal(hook.sealed, call.core.keys.unseal)
        held = Secrets(secret, former.current, time.time() + GRACE)
    sealed = seal(held, lambda data: call.core.keys.seal(hook.node, data))
    changed = msgspec.structs.replace(hook, sealed=sealed)
    await call.append(call.core.directory.change(hook.id, changed))
    await call.note("webhook.secret", hook.id)
    return await _view(call, changed, secret)


@table.route("POST", "/webhooks/{id}/test", Access.MANAGE, status=202)
async def test_webhook(call: Call) -> None:
    """Send an event that says nothing but that it arrives."""
    await call.core.webhooks.test(_own(call))


@table.route(
    "GET",
    "/webhooks/{id}/deliveries",
    Access.MANAGE,
    answer=DeliveriesView,
    parameters=("state", "after", "limit"),
)
async def list_deliveries(call: Call) -> DeliveriesView:
    """List deliveries, newest first: pending, delivered, and the dead letters."""
    hook, state = _own(call), call.query.get("state", "")
    if state and state not in STATES:
        raise RejectedError(f"state is one of {', '.join(STATES)}")
    limit = max(1, call.number("limit", 50, 200))
    after = call.number("after", 0, 1 << 53)
    found = await call.core.webhooks.queue.listed(hook.id, state, after, limit + 1)
    page = found[:limit]
    more = page[-1].id if len(found) > limit else None
    return DeliveriesView([_delivery(each) for each in page], more)


def _delivery(each: Delivery) -> DeliveryView:
    return DeliveryView(
        each.id,
        each.event,
        each.type,
        each.state,
        each.attempts,
        each.created,
        each.due,
        each.ended,
        each.status,
        each.error,
        each.body,
    )


@table.route("POST", "/webhooks/{id}/redeliver", Access.MANAGE, body=Redeliver, answer=Redelivered)
async def redeliver(call: Call) -> Redelivered:
    """Send deliveries again, by id, or every dead letter."""
    return Redelivered(await call.core.webhooks.redeliver(_own(call), call.body.ids))
