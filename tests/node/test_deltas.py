"""The keeper of deltas: what it makes of what, when, and in a process of its own."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
import trio

from mesh.status import LinkStatus
from node.deltas import AGAIN_MAX, BASES, DeltaKeeper, worth
from node.payback import SAVED_MAX, SHARE, Allowance, Payback
from store import schema
from store.changes import changes
from store.database import open_database
from store.digest import Digest
from store.facts import File, Publish
from store.files import FileStore
from store.fold import FILE
from store.identity import Identity
from store.ledger import Ledger
from store.projection import Touched
from store.shelf import Shelf
from store.siblings import Siblings
from tests.mesh.nodes import until
from tests.node.placement import fleet as whole
from tests.store.partial_blobs import manifest_of

OLD = random.Random(1).randbytes(400_000)


def version(number: int) -> bytes:
    data = bytearray(OLD)
    for at in range(0, len(data), 10_000):  # so that no chunk is in two versions
        data[at] ^= number
    return bytes(data)


class Desk:
    """A keeper, and a ledger to publish to."""

    def __init__(self, keeper: DeltaKeeper, store: FileStore, ledger: Ledger) -> None:
        self.keeper, self.store, self.ledger = keeper, store, ledger
        self.told: list[bytes] = []
        keeper.tell = self.told.append

    async def publish(self, name: str, data: bytes, *, here: bool = True) -> Digest:
        digest = Digest.of(data)
        if here:
            async with self.store.ingest() as ingest:
                await ingest.write(data)
        file = File(f"p/{name}", "wheel", str(digest), len(data))
        await self.ledger.append([Publish("r", "p", name, (file,))], actor="test")
        return digest

    async def settled(self, condition: Callable[[], bool]) -> None:
        async def holds() -> bool:
            return condition()

        await until(holds, 20.0)


@asynccontextmanager
async def desk(root: Path) -> AsyncGenerator[Desk]:
    async with open_database(f"sqlite+aiosqlite:///{root}/f.db", schema.facts) as facts:
        ledger = Ledger(facts, Identity.from_seed(Digest.of(b"a").raw))
        await ledger.initialise(site="s", name="a")
        store = FileStore(root)
        await store.open()
        shelf = Shelf(root / "deltas", store, budget=1 << 20)
        keeper = DeltaKeeper(shelf, store, Siblings(facts))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            yield Desk(keeper, store, ledger)
            nursery.cancel_scope.cancel()


async def test_a_delta_from_the_last_versions_is_made_for_who_asks(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        digests = [await found.publish(f"p-1.{n}.whl", version(n)) for n in range(4)]
        await found.publish("p-1.9.tar.gz", version(9))
        assert found.keeper.offers(digests[3].raw) == []
        found.keeper.asked(digests[3].raw)
        await found.settled(lambda: found.keeper.made == BASES)
        offers = found.keeper.offers(digests[3].raw)
        assert {each[0] for each in offers} == {digests[2].raw, digests[1].raw}
        assert all(each[2] < 4000 for each in offers)
        await found.settled(lambda: found.told == [digests[3].raw] * 2)
        await found.settled(lambda: not [*found.keeper.folder.iterdir()])
        found.keeper.asked(digests[3].raw)  # once is enough
        found.keeper.asked(digests[2].raw)
        await found.settled(lambda: found.keeper.made == 2 * BASES)


async def test_what_is_published_while_members_are_linked_gets_one_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.publish("p-1.1.whl", version(1))
        new = await found.publish("p-1.2.whl", version(2))
        cell = Touched(FILE, "r", "p", "p/p-1.2.whl", 1, size=400_000)
        (change,) = changes([cell])
        await found.keeper.follow(change)  # nobody is there
        found.keeper.linked = lambda: ["somebody"]
        await found.keeper.follow(change)
        await found.settled(lambda: bool(found.keeper.offers(new.raw)))
        assert found.keeper.made == 1


async def test_what_has_little_in_common_gets_none(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.publish("p-1.1.whl", random.Random(2).randbytes(400_000))
        await found.publish("p-1.2.whl", version(2))
        third = await found.publish("p-1.3.whl", version(3))
        for digest in (Digest.of(version(2)), third):
            found.keeper.asked(digest.raw)
        await found.settled(lambda: bool(found.keeper.offers(third.raw)))
        assert found.keeper.offers(Digest.of(version(2)).raw) == []
        await found.settled(lambda: not [*found.keeper.folder.iterdir()])


async def test_files_with_numbers_and_nothing_else_in_common_are_left_alone(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as found:
        keeper, tries = found.keeper, list[Digest]()
        usual = keeper.make

        async def make(basis: Digest, blob: Digest, stem: Path, limit: int) -> None:
            tries.append(blob)
            await usual(basis, blob, stem, limit)

        keeper.make = make
        log = [
            await found.publish(f"run-{n:03}.bin", random.Random(n).randbytes(200_000))
            for n in range(8)
        ]
        wheel = [await found.publish(f"p-1.{n}.whl", version(n)) for n in range(2)]
        for each in (*log, wheel[1]):
            keeper.asked(each.raw)
        await found.settled(lambda: bool(keeper.offers(wheel[1].raw)))
        assert set(tries) == {log[1], log[2], wheel[1]}
        assert keeper.made == 1
        assert 0 < keeper.allowance.spent < 30
        await found.settled(lambda: len(keeper.payback) == 1)
        keeper.payback = Payback()  # they have rested
        keeper.asked(log[5].raw)
        await found.settled(lambda: log[5] in tries)


async def test_what_making_costs_is_bounded(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        keeper = found.keeper
        keeper.allowance.spend(SAVED_MAX + 1000 * SHARE, trio.current_time())
        digests = [await found.publish(f"p-1.{n}.whl", version(n)) for n in range(2)]
        keeper.asked(digests[1].raw)
        await trio.sleep(0.2)
        assert keeper.made == 0
        assert keeper.allowance.wait(trio.current_time()) > 900


async def test_after_the_wait_it_is_asked_again_who_could_use_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path) as found:
        keeper, tries = found.keeper, list[Digest]()
        usual = keeper.make

        async def make(basis: Digest, blob: Digest, stem: Path, limit: int) -> None:
            tries.append(blob)
            await usual(basis, blob, stem, limit)

        async def bases(_: Digest) -> list[Digest]:
            return [first]

        first = await found.publish("p-1.1.whl", version(1))
        late = await found.publish("p-1.2.whl", version(2))
        other = await found.publish("p-1.3.whl", version(3))
        gone = {late}

        async def asked(_: Digest, blob: Digest) -> bool:
            looks.append(blob)
            return blob not in gone or looks.count(blob) == 1

        looks: list[Digest] = []
        keeper.make, keeper.useful = make, asked
        monkeypatch.setattr(keeper, "_bases", bases)
        keeper.allowance.spend(SAVED_MAX + SHARE * 0.2, trio.current_time())
        for each in (late, late, other):
            keeper.asked(each.raw)
        await found.settled(lambda: bool(keeper.offers(other.raw)))
        assert tries == [other]
        assert looks.count(late) == 2
        gone.clear()
        keeper.allowance = Allowance()
        keeper.asked(late.raw)  # it is not forgotten
        await found.settled(lambda: late in tries)


async def test_what_has_overdrawn_makes_no_second_one(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        keeper, costs = found.keeper, iter((0.0, SAVED_MAX + 1, SAVED_MAX + 1))
        for number in (1, 2):
            await found.publish(f"p-1.{number}.whl", version(number))
        new = await found.publish("p-1.3.whl", version(3))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("node.deltas.spent", lambda: next(costs, 2 * SAVED_MAX))
            keeper.asked(new.raw)
            await found.settled(lambda: new.raw in keeper._seen)
        assert keeper.made == 1


async def test_it_is_looked_again_for_who_could_use_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.deltas.AGAIN", 0.05)
    async with desk(tmp_path) as found:
        looks: list[Digest] = []
        found.keeper.linked = lambda: ["somebody"]

        async def useful(_: Digest, blob: Digest) -> bool:
            looks.append(blob)
            return len(looks) == 3

        found.keeper.useful = useful
        await found.publish("p-1.1.whl", version(1))
        new = await found.publish("p-1.2.whl", version(2))
        (change,) = changes([Touched(FILE, "r", "p", "p/p-1.2.whl", 1, size=400_000)])
        await found.keeper.follow(change)  # nobody is known to have the basis yet
        await found.settled(lambda: bool(found.keeper.offers(new.raw)))
        assert looks == [new] * 3
        lone = (
            await found.publish("q-1.1.zip", version(1)),
            await found.publish("q-1.2.zip", version(3)),
        )
        looks += [new] * 3
        found.keeper.asked(lone[1].raw)
        await found.settled(lambda: looks.count(lone[1]) == AGAIN_MAX + 1)


@pytest.mark.parametrize(
    ("sending", "metered", "made"),
    [(None, False, False), (5e5, False, True), (2e6, False, False), (2e6, True, True)],
)
def test_deltas_are_made_for_slow_links_and_where_bytes_cost(
    sending: float | None, metered: bool, made: bool
) -> None:
    path = Mock(spec=LinkStatus, sending=sending, metered=metered)
    assert worth(path) is made


async def test_none_is_made_that_no_member_could_use(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        first = await found.publish("p-1.1.whl", version(1))
        second = await found.publish("p-1.2.whl", version(2))
        third = await found.publish("p-1.3.whl", version(3))
        asked: list[tuple[Digest, Digest]] = []

        async def useful(basis: Digest, blob: Digest) -> bool:
            asked.append((basis, blob))
            return (basis, blob) == (first, third) or len(asked) > 4

        found.keeper.useful = useful
        found.keeper.asked(second.raw)
        found.keeper.asked(third.raw)
        await found.settled(lambda: bool(found.keeper.offers(third.raw)))
        assert [each[0] for each in found.keeper.offers(third.raw)] == [first.raw]
        assert found.keeper.offers(second.raw) == []

        def offered() -> bool:
            found.keeper.asked(second.raw)  # somebody may have come
            return bool(found.keeper.offers(second.raw))

        await found.settled(offered)


async def test_what_is_elsewhere_or_small_or_unnamed_gets_none(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.publish("p-1.1.whl", version(1))
        away = await found.publish("p-1.2.whl", version(2), here=False)
        await found.publish("p-1.1.zip", b"small" * 10)
        small = await found.publish("p-1.2.zip", b"small" * 11)
        last = await found.publish("p-1.3.whl", version(3))
        for digest in (away, small, Digest.of(b"unnamed"), last):
            found.keeper.asked(digest.raw)
        await found.settled(lambda: bool(found.keeper.offers(last.raw)))
        assert found.keeper.made == 1


async def test_a_process_that_fails_is_told_and_the_next_is_made(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        await found.publish("p-1.1.whl", version(1))
        second = await found.publish("p-1.2.whl", version(2))
        third = await found.publish("p-1.3.whl", version(3))
        usual, failed = found.keeper.make, list[Digest]()

        async def make(basis: Digest, blob: Digest, stem: Path, limit: int) -> None:
            if blob == second:
                failed.append(blob)
                raise OSError("killed")
            await usual(basis, blob, stem, limit)

        found.keeper.make = make
        found.keeper.asked(second.raw)
        found.keeper.asked(third.raw)
        await found.settled(lambda: bool(found.keeper.offers(third.raw)))
        assert failed == [second]
        assert len(found.keeper.payback) == 1  # it has not paid


async def test_a_blob_of_the_node_is_never_taken_for_a_delta(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        own = await found.publish("p-1.1.whl", version(1))
        assert not await found.keeper.expect(own)
        other = Digest.of(b"other")
        assert await found.keeper.expect(other)
        assert other in found.keeper.shelf
        await found.keeper.unexpect(other)
        assert other not in found.keeper.shelf


async def test_whole_nodes_move_the_delta_of_what_was_published(tmp_path: Path) -> None:
    async with whole.fleet(tmp_path) as nodes:
        settings = {
            "delta_budget": 1 << 30,
            "links": ("* metered",),
        }  # else the loopback is too fast for deltas
        one = await nodes.node("one", **settings)
        two = await nodes.node("two", **settings)
        mesh = two.core.mesh
        assert mesh is not None
        assert one.core.mesh is not None
        both = [mesh.deltas, one.core.mesh.deltas]

        async def ready() -> bool:
            return all(deltas.shelf is not None for deltas in both)

        await until(ready)
        first = await one.publish("p/p-1.1.whl", version(1))
        await mesh.fetch(first)
        before = sum(peer.received for peer in mesh.peers())
        second = await one.publish("p/p-1.2.whl", version(2))
        shelf = one.core.mesh.deltas.shelf
        assert shelf is not None

        async def offered() -> bool:
            shelf.asked(second.raw)
            return bool(shelf.offers(second.raw))

        await until(offered, 20.0)
        await mesh.fetch(second, size=len(OLD), manifest_id=manifest_of(version(2)).id)
        assert await two.has(second)
        assert (
            sum(peer.received for peer in mesh.peers()) - before < 60_000
        )  # records and greetings

        async def used() -> bool:
            return mesh.deltas.used == 1

        await until(used)
        (_, delta, _, _), *_ = shelf.offers(second.raw)
        assert not await two.has(Digest.sha256(delta))
        assert await two.core.placer.inventory.rows([delta]) == {}


async def test_who_made_a_blob_of_a_delta_offers_it_to_a_third_node(tmp_path: Path) -> None:
    async with whole.fleet(tmp_path) as nodes:
        settings = {"delta_budget": 1 << 30, "links": ("* metered",)}
        one, two, three = [await nodes.node(f"s{n}", **settings) for n in range(3)]
        meshes = [node.core.mesh for node in (one, two, three) if node.core.mesh is not None]

        async def ready() -> bool:
            return all(mesh.deltas.shelf and len(mesh.linked()) == 2 for mesh in meshes)

        await until(ready, 20.0)
        first = await one.publish("p/p-1.1.whl", version(1))
        for mesh in meshes[1:]:
            await mesh.fetch(first)
        second = await one.publish("p/p-1.2.whl", version(2))
        shelf = meshes[0].deltas.shelf
        assert shelf is not None

        async def offered() -> bool:
            shelf.asked(second.raw)
            return bool(shelf.offers(second.raw))

        await until(offered, 20.0)
        await meshes[1].fetch(second, size=len(OLD), manifest_id=manifest_of(version(2)).id)

        async def onward() -> bool:
            third = meshes[1].deltas.shelf
            return third is not None and bool(third.offers(second.raw))

        await until(onward)
        await nodes.stop(one)
        before = sum(peer.received for peer in meshes[2].peers())
        await meshes[2].fetch(second, size=len(OLD), manifest_id=manifest_of(version(2)).id)
        assert await three.has(second)

        async def used() -> bool:
            return meshes[2].deltas.used == 1

        await until(used)
        assert sum(peer.received for peer in meshes[2].peers()) - before < 60_000
        told = meshes[2].insight.why(second)
        assert told is not None
        assert [event.what for event in told.events].count("delta") == 2
