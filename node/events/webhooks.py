"""Webhooks: events as signed HTTP requests, from the node that owns each webhook.

The definition is a setting that the whole mesh shares; its secret and its address are sealed to the
owner, which alone delivers.  Events are queued in the transaction that remembers how far the
journal was read, tried until they are taken or given up after about a day, and then kept to be
listed and sent again.  At least once: a receiver that sees an id twice has seen one event.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog
import trio

from node.directory import Directory, WebhookEntry
from node.events.happening import Event, event_of, wanted
from node.events.signing import Secrets, header, unseal, unseal_url
from node.metrics import Metrics
from store.deliveries import DEAD, DELIVERED, Deliveries, Delivery, New
from store.errors import RegistryError, UpstreamError
from store.followers import Followers, Reading
from store.journal import Journal
from store.ledger import Ledger

NAME = "webhooks"
PAGE = 400  # changes read at once
GATHER = 0.1  # seconds over which changes are gathered
ATTEMPTS_MAX = 12
FIRST = 30.0  # seconds before the second attempt; each wait is twice the one before
WAIT_MAX = 6 * 3600.0
JITTER = 0.2  # of a wait, either way
AT_ONCE = 8  # webhooks that are served at a time
IN_A_ROW = 20  # deliveries to one before others have their turn
RETRY = 10.0  # seconds after something failed that is nobody's webhook
LOOK = 60.0  # seconds between looks at the queue, at most
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said: its status, 0 if it said nothing, and what was wrong."""

    status: int
    error: str = ""

    @property
    def taken(self) -> bool:
        """Whether the event was taken."""
        return 200 <= self.status < 300


class Sender(Protocol):
    """Sends one request, and follows no redirect.  Never raises for what a receiver does."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer: ...


class Webhooks:
    """Queues and delivers for one node.  ``unseal`` opens what is sealed to it."""

    def __init__(
        self,
        journal: Journal,
        ledger: Ledger,
        directory: Directory,
        followers: Followers,
        queue: Deliveries,
        unsealer: Callable[[bytes], bytes],
        sender: Sender,
        metrics: Metrics,
    ) -> None:
        self._journal, self._ledger, self._directory = journal, ledger, directory
        self._followers, self.queue = followers, queue
        self._unseal, self._sender = unsealer, sender
        self._tries = metrics.counter("webhook_deliveries", "Tries of webhooks", ("outcome",))
        self._queued = trio.Event()
        self._chance = random.Random()  # noqa: S311  spreads retries, guards nothing

    def owned(self) -> list[WebhookEntry]:
        """The webhooks that this node delivers."""
        node = self._ledger.node
        return [e for e in self._directory.all(WebhookEntry) if e.node == node and not e.disabled]

    # --- queueing --------------------------------------------------------------------------------
    async def run(self) -> None:
        """Follow the journal and deliver, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._deliver)

    async def _follow(self) -> None:
        with self._ledger.subscribe() as grown:
            while True:
                try:
                    while await self.enqueue():
                        await trio.lowlevel.checkpoint()
                except RegistryError as error:
                    log.warning("webhooks.not_queued", error=str(error))
                    await trio.sleep(RETRY)
                    continue
                await grown.receive()
                await trio.sleep(GATHER)

    async def enqueue(self) -> int:
        """Queue what the next page of changes means for webhooks; how many changes there were."""
        state = await self._place()
        page = await self._journal.after(state.position, PAGE)
        if not page:
            return 0
        hooks = self.owned()
        new: list[New] = []
        for each in page if hooks else ():
            event = event_of(each, self._ledger.node)
            told = [hook for hook in hooks if fits(hook, event)]
            body = msgspec.json.encode(event).decode() if told else ""
            new += [New(hook.id, event.id, event.type, body) for hook in told]
        state.position = page[-1].position
        now = time.time()
        full = await self.queue.queue(new, now, name=NAME, state=state)
        if full:
            log.warning("webhooks.queue_full", given_up=full)
        if new:
            self.wake()
        return len(page)

    async def _place(self) -> Reading:
        """How far the journal was read; from now on where that says nothing."""
        life = self._ledger.incarnation
        state = await self._followers.load(NAME, Reading)
        oldest, newest = await self._journal.bounds()
        if state is not None and state.incarnation == life and oldest <= state.position <= newest:
            return state
        if state is not None:
            log.warning("webhooks.gap", since=state.position, reaches_back_to=oldest)
        state = Reading(life, newest)
        await self._followers.keep(NAME, state)
        return state

    async def test(self, hook: WebhookEntry) -> None:
        """Queue an event that says nothing but that the webhook works."""
        now = time.time()
        name = f"test-{hook.id}-{int(now * 1000)}"[:64]
        node = self._ledger.node
        event = Event(id=name, type="webhook.test", at=now, node=node, seen_by=node)
        body = msgspec.json.encode(event).decode()
        await self.queue.queue([New(hook.id, event.id, event.type, body)], now)
        self.wake()

    async def redeliver(self, hook: WebhookEntry, ids: Sequence[int] | None) -> int:
        """Queue deliveries again; None: every dead one."""
        number = await self.queue.redeliver(hook.id, ids, time.time())
        self.wake()
        return number

    def wake(self) -> None:
        """Have the queue looked at."""
        self._queued.set()

    # --- delivering ------------------------------------------------------------------------------
    async def _deliver(self) -> None:
        while True:
            self._queued = trio.Event()
            try:
                if await self.deliver_due():
                    continue
                due = await self.queue.next_due()
            except RegistryError as error:
                log.warning("webhooks.not_delivered", error=str(error))
                due = time.time() + RETRY
            wait = LOOK if due is None else min(LOOK, max(0.05, due - time.time()))
            with trio.move_on_after(wait):
                await self._queued.wait()

    async def deliver_due(self) -> int:
        """Try whatever is due, each webhook's in order; how many tries there were.

        Raises UnavailableError when what became of a try could not be written down.
        """
        due = await self.queue.due(time.time(), AT_ONCE * IN_A_ROW)
        groups: dict[str, list[Delivery]] = {}
        for each in due:
            groups.setdefault(each.webhook, []).append(each)
        places = trio.CapacityLimiter(AT_ONCE)
        trouble: list[RegistryError] = []  # of our own store: the same for all of them
        async with trio.open_nursery() as nursery:
            for name, group in groups.items():
                nursery.start_soon(self._serve, name, group[:IN_A_ROW], places, trouble)
        if trouble:
            raise trouble[0]
        return len(due)

    async def _serve(
        self,
        name: str,
        group: Sequence[Delivery],
        places: trio.CapacityLimiter,
        trouble: list[RegistryError],
    ) -> None:
        async with places:
            try:
                await self._deliver_to(name, group)
            except RegistryError as error:
                trouble.append(error)

    async def _deliver_to(self, name: str, group: Sequence[Delivery]) -> None:
        """Deliver to one webhook; after a failure the rest waits, since it would fail as well."""
        for index, each in enumerate(group):
            hook = self._directory.get(WebhookEntry, name)
            if hook is None or hook.node != self._ledger.node:
                await self.queue.forget(name)
                return
            if hook.disabled:
                await self._put_off(group[index:], "the webhook is disabled", LOOK * 10)
                return
            answer = await self._try(hook, each)
            if not answer.taken:
                await self._put_off(group[index + 1 :], "waits for one before it", FIRST)
                return

    async def _put_off(self, rest: Sequence[Delivery], why: str, wait: float) -> None:
        for each in rest:
            waited = each._replace(attempts=each.attempts - 1)  # it was no attempt
            await self.queue.again(waited, time.time() + wait, each.status, why)

    async def _try(self, hook: WebhookEntry, delivery: Delivery) -> Answer:
        try:
            held = unseal(hook.sealed, self._unseal)
            url = unseal_url(hook.address, self._unseal) if hook.address else hook.url
            answer = await self._send(hook, url, held, delivery)
        except (RegistryError, ValueError, msgspec.DecodeError):
            told = "the secret or the url is not sealed to this node; set both again"
            answer = Answer(0, told)
        now = time.time()
        if answer.taken:
            self._tries.labels("delivered").inc()
            await self.queue.end(delivery, DELIVERED, now, answer.status, "")
        elif delivery.attempts + 1 >= ATTEMPTS_MAX:
            self._tries.labels("dead").inc()
            log.warning("webhook.dead", webhook=hook.id, id=delivery.event, error=answer.error)
            await self.queue.end(delivery, DEAD, now, answer.status, answer.error)
        else:
            self._tries.labels("failed").inc()
            wait = self.wait(delivery.attempts + 1)
            await self.queue.again(delivery, now + wait, answer.status, answer.error)
        return answer

    async def _send(
        self, hook: WebhookEntry, url: str, held: Secrets, delivery: Delivery
    ) -> Answer:
        body = delivery.body.encode()
        signature = header(held, time.time(), body)
        headers = {
            "content-type": "application/json",
            "x-atoll-event": delivery.type,
            "x-atoll-delivery": delivery.event,
            "x-atoll-webhook": hook.id,
            "x-atoll-signature": signature,
        }
        try:
            return await self._sender.post(url, headers, body)
        except UpstreamError as error:  # its address is not to be asked, or its name not known
            return Answer(0, str(error))

    def wait(self, attempts: int) -> float:
        """Seconds until the next attempt after so many."""
        base: float = min(WAIT_MAX, FIRST * 2.0 ** (attempts - 1))
        return base * (1 + self._chance.uniform(-JITTER, JITTER))


def fits(hook: WebhookEntry, event: Event) -> bool:
    """Whether a webhook is to be told of an event."""
    if not wanted(hook.events, event.type):
        return False
    return not hook.repositories or bool(
        event.repository and wanted(hook.repositories, event.repository)
    )
