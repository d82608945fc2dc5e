"""The book merges: statements of three nodes, carried in any order, give one promotion."""

from __future__ import annotations

import itertools
import random
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.promotion import book
from node.promotion.book import Asked, Done, Item, Promotion, Said
from node.promotion.undoing import _records_of, _standing
from store import fold
from store.facts import Delete, Fact, File, Flag, Publish
from store.rows import FlagRow
from tests.store.ledgers import Node, mesh

ASKED = Asked("stage", (Item("p", "1", "1", "ab"),), "dev", 1.0)
FILE = File("p/1", "file", "sha256:" + "a" * 64, 1)
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["approve", "reject", "carry out", "roll back", "publish", "sync"]),
    ),
    max_size=14,
)


def row(
    name: str, value: Any, path: str = "", records: tuple[bytes, ...] = (b"r" * 32,)
) -> FlagRow:
    fact = book.note("rel", "id", name, value, path=path)
    assert fact.value is not None
    return FlagRow("rel", book.BOOK, "id", path, name, fact.value, 0.0, records)


def test_every_order_gives_the_same_state() -> None:
    rows = [
        row(book.ASKED, ASKED),
        row(book.APPROVED, Said("lead", 2.0), "lead"),
        row(book.APPROVED, Said("chief", 2.0), "somebody else"),
        row(book.DONE, Done("lead", 3.0), records=(b"1" * 32, b"2" * 32)),
        row(book.UNDONE, Said("lead", 4.0), (b"1" * 32).hex()),
    ]
    found = [book.assemble("id", "rel", order) for order in itertools.permutations(rows)]
    assert all(each == found[0] for each in found)
    assert found[0] is not None
    assert found[0].state == "promoted", "one of two executions still stands"
    assert list(found[0].approvals) == ["lead"]
    assert book.assemble("id", "rel", rows[1:]) is None


def test_what_cannot_be_read_counts_for_nothing() -> None:
    odd = FlagRow("rel", book.BOOK, "id", "", book.REJECTED, b"[[", 0.0, ())
    found = book.assemble("id", "rel", [row(book.ASKED, ASKED), odd])
    assert found is not None
    assert found.state == "pending"


async def _state(node: Node) -> Promotion:
    found = await node.port.read(partial(book.find, targets=["rel"], id_="id"))
    assert found is not None
    return found


async def _act(node: Node, step: str) -> None:
    """One node's step, as the service writes it, with what that node knows."""
    promotion = await _state(node)
    user = f"user{node.number}"
    facts: list[Fact] = []
    if step == "publish":
        facts = [Publish("rel", "p", "1", (FILE,))]
    elif step == "roll back" and promotion.standing:
        own = await node.port.read(partial(_records_of, promotion=promotion))
        unit = partial(_standing, target="rel", paths=["p/1"], own=own)
        facts = (
            [] if (await node.port.read(unit)).kept else [Delete("rel", "p/1", tuple(sorted(own)))]
        )
        for each in promotion.standing:
            facts.append(book.note("rel", "id", book.UNDONE, Said(user, 1.0), path=each.hex()))
    elif promotion.state == "pending" and step == "approve":
        facts = [book.note("rel", "id", book.APPROVED, Said(user, 1.0), path=user)]
    elif promotion.state == "pending" and step == "reject":
        facts = [book.note("rel", "id", book.REJECTED, Said(user, 1.0))]
    elif promotion.state == "pending" and step == "carry out":
        begun = book.note("rel", "id", book.BEGUN, Said(user, 1.0))
        done = book.note("rel", "id", book.DONE, Done(user, 1.0))
        facts = [begun, Publish("rel", "p", "1", (FILE,)), done]
    if facts:
        await node.append(*facts)
    node.clock.now += 1.0


async def _sync(source: Node, target: Node) -> None:
    await target.ledger.apply(await source.batches())


@given(steps, st.integers(0, 1000))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_partition_ends_in_one_book_and_one_catalog(history: Any, seed: int) -> None:
    import trio

    async def run() -> None:
        nodes = await mesh(3)
        await nodes[0].append(book.note("rel", "id", book.ASKED, ASKED))
        for node in nodes[1:]:
            await _sync(nodes[0], node)
        for index, step in history:
            if step == "sync":
                await _sync(nodes[index], nodes[(index + 1) % 3])
            else:
                await _act(nodes[index], step)
        order = [(a, b) for a in nodes for b in nodes if a is not b] * 2
        random.Random(seed).shuffle(order)
        for source, target in (*order, *((a, b) for a in nodes for b in nodes if a is not b)):
            await _sync(source, target)
        catalogs = [node.catalog() for node in nodes]
        assert catalogs[0] == catalogs[1] == catalogs[2]
        found = [await _state(node) for node in nodes]
        assert found[0] == found[1] == found[2]
        await _served_as_told(nodes[0], found[0])

    trio.run(run)


async def _served_as_told(node: Node, promotion: Promotion) -> None:
    """What stands is visible; what does not stand is only there if somebody published it."""
    visible = bool(node.rows("files"))
    if promotion.standing:
        assert visible
    direct = [
        claim
        for claim in node.rows("claims")
        if claim["cell"] == fold.file_cell("rel", "p/1") and promotion.state != "promoted"
    ]
    if visible and not promotion.standing:
        assert direct


def test_facts_are_flags_of_a_package_that_no_format_has() -> None:
    fact = book.note("rel", "id", book.ASKED, ASKED)
    assert isinstance(fact, Flag)
    assert fact.package.startswith(":")
