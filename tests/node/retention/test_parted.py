"""Histories of whole nodes across a partition: pushes, deletes, restores, tags, pins, promotions,
rollbacks, quotas, retention and collections, several at once, on each side.

After every step: what a node's catalog needs and the node had is there and hashes to its name;
retention took nothing that was protected; counters equal a recount.  When the sides have met, all
catalogs are the same.  Bugs are planted, and must be found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from node import garbage
from node.directory import PinEntry, PlacementEntry, RetentionEntry
from node.promotion import book
from node.retention import planning
from node.retention.policy import Policy
from store import counting, hlc, schema
from store.digest import Digest
from store.errors import RegistryError
from store.gc import Sweep
from store.ledger import Ledger
from store.references import References
from tests.formats import test_oci
from tests.node.retention import parted
from tests.node.retention.parted import HELD, HOUR, IMAGES, REL, STAGE, Look, Site, Sites

EXAMPLES = 15
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
WRITES = ("push", "push", "image", "promote", "approve", "retire", "retire", "restore", "collect")
OTHERS = (
    *("push", "push", "image", "upload", "tag", "delete", "restore", "read"),
    *("collect", "collect", "retire", "retire", "exchange", "exchange", "again"),
    *("pin", "unpin", "keep", "place", "quota", "promote", "approve", "reject", "roll_back"),
)
Op = tuple[int, str, tuple[str, str]]  # which node, what, and of which version and content
Step = tuple[str, Op, list[Op]]  # together or held, what comes first, what else


@st.composite
def operations(draw: st.DrawFn, kinds: Sequence[str]) -> Op:
    place = draw(st.sampled_from("1234")), draw(st.sampled_from("xyz"))
    return draw(st.integers(0, 1)), draw(st.sampled_from(kinds)), place


@st.composite
def episodes(draw: st.DrawFn) -> list[Step]:
    """Some steps: any at all, or those that lead up to what is dangerous."""
    site, content = draw(st.integers(0, 1)), draw(st.sampled_from("xyz"))
    old, new, third, fourth = draw(st.permutations("1234"))
    others = draw(st.lists(operations(OTHERS), max_size=2))

    def do(kind: str, version: str = old, *more: Op, style: str = "together") -> Step:
        return style, (site, kind, (version, content)), [*more]

    kinds = ["any", "saved", "saved", "raced", "raced", "staged", "deleted", "month"]
    match draw(st.sampled_from(kinds)):
        case "saved":
            saved: list[Op] = [(site, "keep", (new, content)), (site, "promote", (third, content))]
            pushed: list[Op] = [(site, "push", (each, content)) for each in (new, third, fourth)]
            return [do("push", old, *pushed), do("pin", old, *saved), do("retire", old, *others)]
        case "raced":
            first = draw(st.sampled_from(["push", "image", "restore", "retire", "collect"]))
            more: list[Op] = [(site, "collect", ("1", "y")), *others]
            return [do("push", new), do(first, old, *more, style="held")]
        case "staged":
            return [do("upload"), do("collect", "1", *others), do("image")]
        case "deleted":
            return [do("push"), do("delete"), do("collect", "1", *others), do("restore")]
        case "month":
            return [do("collect", new, *others, style="month")]
        case _:
            style = draw(st.sampled_from(["together", "held"]))
            return [(style, draw(operations(WRITES)), [*others, draw(operations(OTHERS))])]


histories = st.lists(episodes(), min_size=2, max_size=5)


class History:
    """One history under way."""

    def __init__(self, sites: Sites) -> None:
        self.sites, self.package = sites, sites.package
        self.read_count, self.months = 0, 0
        self.looks: list[Look] = []

    async def run(self, history: Any) -> None:
        for style, first, others in (step for episode in history for step in episode):
            if style == "month":
                self.months += 1
                await self.sites.pass_by(31 * parted.DAY)
            await self.step([first, *others], held=style == "held")
        await self.heal()

    async def step(self, wanted: Sequence[Any], *, held: bool) -> None:
        """Do some things at once, and look at every node."""
        before = self.looks or [await site.look() for site in self.sites]
        for site in self.sites:
            site.taken, site.pushed = [], set()
        acts = [partial(self.perform, *each) for each in wanted]
        if held:
            await parted.held(acts[0], acts[1:])
        else:
            async with trio.open_nursery() as nursery:
                for act in acts:
                    nursery.start_soon(act)
        kinds = {kind for _, kind, _ in wanted}
        self.looks = [await site.look() for site in self.sites]
        for site, was, now in zip(self.sites, before, self.looks, strict=True):
            check_blobs(site, was, now)
            check_taken(site, was, now)
            if not kinds & {"exchange", "again", "quota", "restore"}:  # which no quota judges
                check_quota(site, was, now)
            told = await site.core.usage.usage(STAGE, self.package)
            assert told.downloads <= self.read_count, "downloads that never were"
        await self.sites.pass_by(HOUR)

    async def perform(self, number: int, kind: str, place: tuple[str, str]) -> None:
        """Do one thing; that it is refused is an answer, too."""
        with suppress(RegistryError):
            await getattr(self, kind)(self.sites[number], *place)

    async def heal(self) -> None:
        """Let the sides meet."""
        for site in self.sites:
            await site.core.usage.tell()
        for _ in range(2):
            for site in self.sites:
                for other in self.sites:
                    await parted.exchange(site, other)
                    await parted.fetch(site, other)
        self.looks.clear()
        tables = [await site.tables() for site in self.sites]
        for name, rows in tables[0].items():
            assert all(each[name] == rows for each in tables), f"{name} differ"
        await self.step([(n, "collect", ("", "")) for n in range(len(self.sites))], held=False)
        for site in self.sites:
            told = await site.core.usage.usage(STAGE, self.package)
            assert told.downloads == self.read_count, "downloads"
            look = await site.look()
            lost = {name for name in look.named if name.startswith("sha256:")} - look.blobs
            assert not lost or self.months, "what is visible is nowhere"

    # --- what is done --------------------------------------------------------------------------
    def path(self, version: str) -> str:
        return f"{self.package}/{version}.bin"

    def data(self, content: str) -> bytes:
        return f"{self.sites.number} {content}".encode() * ord(content)

    async def ask(self, site: Site, method: str, path: str, body: bytes = b"", **more: str) -> Any:
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        answer = await site.ask(method, path, body, headers, password=site.token)
        assert answer.status in {503, 507} or answer.status < 500, answer
        if answer.status == 201 and body:
            site.pushed.add(str(Digest.of(body)))
        return answer

    async def push(self, site: Site, version: str, content: str) -> None:
        await self.ask(site, "PUT", f"/general/{STAGE}/{self.path(version)}", self.data(content))

    async def delete(self, site: Site, version: str, _: str) -> None:
        await self.ask(site, "DELETE", f"/general/{STAGE}/{self.path(version)}")

    async def read(self, site: Site, version: str, _: str) -> None:
        digest = await site.core.catalog.find(STAGE, self.path(version))
        if digest is not None and await site.core.holds(digest.digest):
            answer = await self.ask(site, "GET", f"/general/{STAGE}/{self.path(version)}")
            self.read_count += answer.status == 200

    async def restore(self, site: Site, version: str, _: str) -> None:
        path = f"/repositories/{STAGE}/artifacts/{self.path(version)}/restore"
        assert (await site.api("POST", path)).status in {200, 404, 409}

    async def upload(self, site: Site, _: str, content: str) -> None:
        for blob in (test_oci.CONFIG, self.data(content)):
            path = f"/v2/{IMAGES}/{self.package}/blobs/uploads/?digest={Digest.of(blob)}"
            await self.ask(site, "POST", path, blob)

    async def image(self, site: Site, tag: str, content: str) -> None:
        path = f"/v2/{IMAGES}/{self.package}/manifests/{tag}"
        manifest = test_oci.image(self.data(content))
        answer = await self.ask(site, "PUT", path, manifest, content_type=MANIFEST)
        if answer.status == 404 or answer.status == 400:  # it lacks blobs
            await self.upload(site, tag, content)
            await self.ask(site, "PUT", path, manifest, content_type=MANIFEST)

    async def tag(self, site: Site, tag: str, content: str) -> None:
        path = f"/v2/{IMAGES}/{self.package}/manifests/"
        found = await self.ask(site, "GET", path + tag)
        if found.status == 200:
            name = "precious" if content == "x" else content
            await self.ask(site, "PUT", path + name, found.body, content_type=MANIFEST)

    async def pin(self, site: Site, version: str, _: str) -> None:
        entry = PinEntry(
            id=f"pin{version}",
            repository=STAGE,
            path=self.path(version),
            node=site.core.ledger.node,
        )
        await site.write(site.core.directory.change(entry.id, entry))

    async def unpin(self, site: Site, version: str, _: str) -> None:
        await site.write(site.core.directory.remove(PinEntry, f"pin{version}"))

    async def keep(self, site: Site, version: str, _: str) -> None:
        """A policy that saves a version, or none."""
        directory, name = site.core.directory, f"{self.package}@{version}.bin"
        policy = Policy(id="k", repositories=(STAGE,), keep=True, include=(name,))
        there = directory.get(RetentionEntry, "k")
        entry = RetentionEntry(id="k", policy=policy, disabled=there is not None)
        await site.write(directory.change("k", entry))

    async def place(self, site: Site, version: str, _: str) -> None:
        """A placement rule that saves everything, or none."""
        directory = site.core.directory
        entry = PlacementEntry(id="r", target="everywhere", repositories=(STAGE,))
        there = directory.get(PlacementEntry, "r") is not None or version != "1"
        await site.write(
            directory.remove(PlacementEntry, "r") if there else directory.change("r", entry)
        )

    async def quota(self, site: Site, version: str, content: str) -> None:
        entry = site.core.entry(STAGE)
        assert entry is not None
        size = 1000 if content == "x" else 0
        changed = msgspec.structs.replace(entry, quota_files=int(version) - 1, quota_bytes=size)
        await site.write(site.core.directory.change(STAGE, changed))

    async def promote(self, site: Site, version: str, _: str) -> None:
        source, target = site.core.entry(STAGE), site.core.entry(REL)
        assert source is not None
        assert target is not None
        wanted = [(self.package, f"{version}.bin")]
        await site.core.promotions.ask(parted.caller("dev"), source, target, wanted)

    async def decide(self, site: Site, status: str, what: str) -> None:
        found = await site.core.promotions.page(REL, status=status)
        if found:
            await getattr(site.core.promotions, what)(parted.caller("lead"), found[0].id)

    async def approve(self, site: Site, *_: str) -> None:
        await self.decide(site, "pending", "approve")

    async def reject(self, site: Site, *_: str) -> None:
        await self.decide(site, "pending", "reject")

    async def roll_back(self, site: Site, *_: str) -> None:
        await self.decide(site, "promoted", "roll_back")

    async def retire(self, site: Site, *_: str) -> None:
        await site.core.retention.apply("t", keys=[STAGE, IMAGES])

    async def collect(self, site: Site, version: str, content: str) -> None:
        """Collect to the end, or up to where it is cut off; or let others work in the middle."""
        collector: Any = site.core.collector
        if collector.running:
            return
        scope, hold, note = trio.CancelScope(), HELD.get(), collector._note
        left = int(version, 36) * 60 if version else 0

        async def noted(following: str | None) -> None:
            nonlocal left
            note(following)
            left -= 1
            if left == 0 and hold is not None:
                hold.reached.set()
                await hold.opened.wait()
            elif left == 0 and content == "x":
                scope.cancel()

        collector._note = noted
        try:
            with scope:
                await collector.collect()
        finally:
            del collector._note

    async def exchange(self, site: Site, _: str, content: str) -> None:
        for other in self.sites:
            await parted.exchange(site, other)
            if content != "x":
                await parted.fetch(site, other)

    async def again(self, site: Site, *_: str) -> None:
        for other in self.sites:
            await parted.exchange(site, other, again=5)


# --- what must be true ----------------------------------------------------------------------------
def check_blobs(site: Site, was: Look, now: Look) -> None:
    """Nothing that is referenced, staged or restorable was collected."""
    needed_then, needed_now = site.needed(was), site.needed(now)
    new = {
        row.digest
        for place, row in now.files.items()
        if row.author == site.core.ledger.node
        and (place not in was.files or was.files[place].record != row.record)
    }
    kept = (was.blobs & needed_then & needed_now) | ((was.blobs | site.pushed) & new)
    lost = kept - now.blobs
    assert not lost, f"collected, though needed: {sorted(lost)}"


def check_taken(site: Site, was: Look, now: Look) -> None:
    """Retention took nothing that was protected all the time."""
    gone = {(fact.repository, fact.path) for fact in site.taken if hasattr(fact, "path")}
    for place in gone & was.files.keys():
        row = was.files[place]
        why = protection(was, row, gone) & protection(now, row, gone)
        assert not why, f"retention took {place[1]}: {why}"


def protection(look: Look, row: Any, gone: set[tuple[str, str]]) -> set[str]:
    """What protects a file, as of one moment."""
    found: set[str] = set()
    name = row.path.rpartition("/")[2]
    if row.repository == IMAGES:
        return {"a tag"} if "precious" in look.tags.get(name, ()) else set()
    if any(pin.path == row.path for pin in look.pins):
        found.add("a pin")
    if look.rules:
        found.add("placement")
    if any(each.keep and each.include == (f"{row.package}@{name}",) for each in look.policies):
        found.add("a policy")
    if (row.package, name) in look.pending:
        found.add("a promotion waits")
    others = [each for each in look.files.values() if each.repository == STAGE]
    if all(_age(each) <= _age(row) for each in others):
        found.add("it is the newest")
    return found


def _age(row: Any) -> tuple[float, str]:
    return hlc.seconds(row.hlc), row.path


def check_quota(site: Site, was: Look, now: Look) -> None:
    """Nothing was published beyond the quota."""
    entry = site.core.entry(STAGE)
    assert entry is not None
    before, after = was.used.get(STAGE, (0, 0)), now.used.get(STAGE, (0, 0))
    for bound, held, more in zip(
        (entry.quota_files, entry.quota_bytes), before, after, strict=True
    ):
        assert not bound or more <= max(bound, held), f"{more} of {bound}"


# --- playing --------------------------------------------------------------------------------------
async def play(folder: Path, **changes: Any) -> None:
    """Play histories on one pair of nodes, which keep their ledgers."""
    async with parted.parted(folder) as sites:

        async def one(history: Any) -> None:
            await sites.begin()
            await History(sites).run(history)

        @given(histories)
        @settings(max_examples=EXAMPLES, deadline=None, **changes)
        def test(history: Any) -> None:
            trio.from_thread.run(one, history)

        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(test)


async def test_what_is_referenced_or_protected_stays_on_every_side(tmp_path: Path) -> None:
    await play(tmp_path, suppress_health_check=list(HealthCheck))


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep what was pushed a moment ago."""
    monkeypatch.setattr(garbage, "Sweep", lambda *a, **more: Sweep(*a, **more | {"grace": 0.0}))


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retention overlook pins."""
    monkeypatch.setattr(planning, "Pin", lambda *_: SimpleNamespace(covers=lambda *_: False))


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retention overlook who waits for a promotion."""
    monkeypatch.setattr(book, "undecided", lambda *_: (set(), []))


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect what was deleted lately."""

    async def none(*_: Any, **__: Any) -> set[str]:
        return set()

    monkeypatch.setattr(References, "_rivals_among", none)


def untidy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect what an upload has staged."""

    async def none(*_: Any) -> set[Digest]:
        return set()

    monkeypatch.setattr(garbage, "in_use", none)


def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count once more what is delivered again."""
    apply = Ledger.apply

    def more(connection: sa.Connection) -> None:
        rows = connection.execute(sa.select(schema.totals)).all()
        counting.add(connection, [(row.repository, row.files, row.size) for row in rows])

    async def counted(self: Ledger, batches: Any) -> Any:
        outcomes = await apply(self, batches)
        if not any(outcome.stored for outcome in outcomes):
            await self._database.write(more)
        return outcomes

    monkeypatch.setattr(Ledger, "apply", counted)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [hasty, blind, impatient, forgetful, untidy, doubling])
async def test_planted_bugs_are_found(
    plant: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    quick: Any = {"phases": [Phase.generate], "derandomize": True, "database": None}
    with pytest.raises((AssertionError, BaseExceptionGroup)) as caught:
        await play(tmp_path, suppress_health_check=list(HealthCheck), **quick)
    assert all(isinstance(each, AssertionError) for each in _leaves(caught.value))


def _leaves(error: BaseException) -> list[BaseException]:
    """What went wrong: several things, where several were under way."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
