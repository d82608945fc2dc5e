"""The law of the ledger: the same records in any order give the same catalog, byte for byte.

Histories of four authors in two sites are generated: publishes (rivals included), deletes, tags,
flags, settings, homes, confirmations, partial synchronisation, skewed clocks.  Observers then get
the records shuffled, doubled and with losses that are made good later.
"""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from store import pruning
from store.errors import RegistryError
from store.facts import Cached, Confirm, Delete, Fact, Flag, Point, Resolve, Restore, Setting
from store.records import Batch
from tests.store.ledgers import NOW, Node, file, mesh, publish, single

AUTHORS = 4
SITES = ("reef", "reef", "shore", "shore")

names = st.sampled_from(["a", "b"])
contents = st.sampled_from(["x", "y", "z"])
authors = st.integers(0, AUTHORS - 1)
values = st.sampled_from([None, b"1", b"2", b'{"disabled":true}'])
homes = st.sampled_from(["reef", "shore", "", "node"])
writes = st.one_of(
    st.tuples(st.just("publish"), authors, names, contents),
    st.tuples(st.just("mutable"), authors, names, contents),
    st.tuples(st.just("cached"), authors, names, contents),
    st.tuples(st.just("delete"), authors, names),
    st.tuples(st.just("restore"), authors, names),
    st.tuples(st.just("confirm"), authors, names),
    st.tuples(st.just("resolve"), authors, names, contents),
    st.tuples(st.just("point"), authors, names, values),
    st.tuples(st.just("flag"), authors, names, values),
    st.tuples(st.just("setting"), authors, names, values),
    st.tuples(st.just("home"), authors, homes),
    st.tuples(st.just("tick"), st.integers(0, 3)),
    st.tuples(st.just("sync"), authors, authors),
)
histories = st.lists(writes, min_size=1, max_size=25)


def fact(step: tuple[Any, ...], node: Node) -> Fact:
    """What a step writes."""
    match step:
        case ("publish", _, path, content):
            return publish(path, content, package=f"p{content}")
        case ("mutable", _, path, content):
            return publish(f"m{path}", content, mutable=True)
        case ("cached", _, path, content):
            return Cached("generic", "demo", "1", (file(f"{path}", content),))
        case ("delete", _, path):
            return Delete("generic", path, ())
        case ("restore", _, path):
            return Restore("generic", path, ())
        case ("confirm", _, path):
            claims = [row["record"] for row in node.rows("claims") if row["cell"].endswith(path)]
            return Confirm("generic", path, claims[0] if claims else bytes(32))
        case ("resolve", _, path, content):
            return Resolve("generic", path, file(path, content).digest)
        case ("point", _, name, value):
            return Point("generic", "demo", name, value)
        case ("flag", _, name, value):
            return Flag("generic", "demo", "1", "", name, value)
        case ("setting", _, key, value):
            return Setting("user", key, value)
        case ("home", _, home):
            value = b'{"home":"%s","former_homes":["reef"]}' % home.encode()
            return Setting("repository", "generic", value)
    raise AssertionError(step)


async def play(history: list[tuple[Any, ...]]) -> list[Node]:
    """Let the authors live through a history."""
    nodes = await mesh(AUTHORS, sites=SITES)
    for step in history:
        if step[0] == "tick":
            nodes[0].clock.now += step[1] / 10
        elif step[0] == "sync":
            await nodes[step[2]].ledger.apply(await nodes[step[1]].batches())
        else:
            await nodes[step[1]].append(fact(step, nodes[step[1]]))
    return nodes


async def everything(nodes: list[Node]) -> list[Batch]:
    """Each author's whole chain, in the smallest batches."""
    found = []
    for node in nodes:
        found += await node.chain(node.ledger.node, node.ledger.incarnation)
    return found


async def observer(nodes: list[Node], number: int) -> Node:
    """A node that has the root documents of the mesh and no record of it."""
    found = await single(number, nodes[0].clock)
    try:
        await found.ledger.rebase(await nodes[0].ledger.roots())
    except RegistryError:
        raise AssertionError("the observer is not a member") from None
    return found


async def deliver_somehow(node: Node, batches: list[Batch], rng: random.Random) -> None:
    """Deliver in disorder: shuffled, some twice, some lost and sent again; until all is in."""
    reach = {(batch.head.author, batch.head.incarnation): batch.head.seq for batch in batches}
    for _ in range(1000):
        sent = [batch for batch in batches if rng.random() < 0.8]
        sent += rng.sample(sent, len(sent) // 3)
        rng.shuffle(sent)
        while sent:
            count = rng.randint(1, 5)
            await node.ledger.apply(sent[:count])
            sent = sent[count:]
        heads = await node.ledger.heads()
        if all(heads.get(key, (0, b""))[0] >= seq for key, seq in reach.items()):
            return
    raise AssertionError("delivery never ended")


@pytest.mark.parametrize("prune_at", [pruning.PRUNE_AT, 2])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories, seed=st.integers(0, 1 << 32))
async def test_any_order_duplication_and_loss_give_one_catalog(
    prune_at: int, history: list[tuple[Any, ...]], seed: int
) -> None:
    rng = random.Random(seed)
    with mock.patch.object(pruning, "PRUNE_AT", prune_at):
        await converge(history, rng, claims=prune_at > 2)


async def converge(history: list[tuple[Any, ...]], rng: random.Random, *, claims: bool) -> None:
    """Play, deliver, compare."""
    nodes = await play(history)
    batches = await everything(nodes)
    for node in nodes:
        await deliver_somehow(node, batches, rng)
    catalogs = [node.catalog() for node in nodes]
    if not claims:  # what was pruned depends on what came when, what is read does not
        for catalog in catalogs:
            del catalog["claims"]
    assert all(catalog == catalogs[0] for catalog in catalogs)
    check_catalog(catalogs[0])
    assert nodes[0].clock.now >= NOW


def check_catalog(catalog: dict[str, list[dict[str, Any]]]) -> None:
    """What must hold of any catalog."""
    packages: dict[tuple[str, str], list[int]] = {}
    for row in catalog["files"]:
        counted = packages.setdefault((row["repository"], row["package"]), [0, 0, 0])
        counted[0] += 1
        counted[1] += row["size"]
        counted[2] = max(counted[2], row["hlc"])
    for row in catalog["pointers"]:
        counted = packages.setdefault((row["repository"], row["package"]), [0, 0, 0])
        counted[2] = max(counted[2], row["hlc"])
    assert packages == {
        (row["repository"], row["package"]): [row["files"], row["size"], row["hlc"]]
        for row in catalog["packages"]
    }
