"""The law of authority: the same papers and records in any order give the same standing.

Histories of four nodes, three of them owners of which two must sign: records, rotations, proposals,
signatures (rivals included), evictions, narrowed rights, delegations and admissions, with partial
synchronisation.  Then everybody gets everything, shuffled and doubled.  After every step no node
believes in a right that the signed documents do not give.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from store import rebase, root
from store.errors import RegistryError
from store.root import Delegation
from store.view import covers_all
from tests.store.ledgers import Node, deliver, identity, mesh, publish

COUNT = 4
people = st.integers(0, COUNT - 1)
steps = st.one_of(
    st.tuples(st.just("publish"), people, st.sampled_from("abc")),
    st.tuples(st.just("rotate"), people),
    st.tuples(st.just("evict"), people, people),
    st.tuples(st.just("narrow"), people, people),
    st.tuples(st.just("delegate"), people, people),
    st.tuples(st.just("admit"), people, st.integers(20, 22)),
    st.tuples(st.just("settle"), people),
    st.tuples(st.just("sign"), people, st.booleans()),
    st.tuples(st.just("sync"), people, people),
)


async def act(nodes: list[Node], step: tuple[Any, ...]) -> None:
    """Do what a step says, as far as the node may."""
    what, node = step[0], nodes[step[1]]
    council = node.ledger.council
    match step:
        case ("publish", _, name):
            await node.append(publish(f"{name}{node.number}"))
        case ("rotate", who):
            await council.rotate(bytes([who + 1, len(node.ledger.identity.others)]) * 16)
        case ("evict", _, victim):
            await council.propose(lambda desk: desk.evict(nodes[victim].ledger.node), rival=True)
        case ("narrow", _, victim):
            await council.propose(
                lambda desk: desk.change(nodes[victim].ledger.node, scopes=("gen*",)), rival=True
            )
        case ("delegate", _, who):
            terms = Delegation(
                nodes[who].ledger.node, ("mirror", "writer"), ("gen*",), ("*",), 1 << 60, 2
            )
            await council.propose(lambda desk: desk.delegate(terms), rival=True)
        case ("admit", _, number):
            await council.admit(
                root.member_of(identity(number), scopes=("generic",), joined=node.clock())
            )
        case ("settle", _):
            await council.propose(lambda desk: desk.settle(), rival=True)
        case ("sign", _, rival):
            for motion in await council.proposals():
                await council.sign(motion.id, rival=rival)
        case ("sync", _, other):
            if nodes[other] is not node:
                await meet(node, nodes[other])
        case _:
            raise AssertionError(what)


async def meet(source: Node, target: Node) -> None:
    for paper in await source.ledger.roots():
        with contextlib.suppress(RegistryError):
            await target.ledger.adopt(paper)
    await target.ledger.apply(await source.batches())


def check_narrow(node: Node) -> None:
    """Whoever counts as a member has been signed in by owners, or by whom they delegated it to."""
    authority = node.ledger.authority
    for who, member in authority.members().items():
        for document in authority.in_force.values():
            assert who not in {each.node for each in document.evicted}
            entry = document.member(who)
            if entry is not None:
                assert authority.roles(who) <= set(entry.roles)
                assert covers_all(entry.scopes, member.scopes) or len(authority.in_force) > 1
                continue
            given_ = [
                delegation
                for delegation in document.delegations
                for admission in authority.statements.admissions.get(delegation.node, ())
                if admission.member.node == who
                and document.member(delegation.node) is not None
                and authority.roles(who) <= set(delegation.roles)
                and covers_all(delegation.scopes, member.scopes)
            ]
            assert given_, f"{who[:8]} is a member by nobody's word"


async def standing(node: Node) -> tuple[object, ...]:
    authority = node.ledger.authority
    valid = sorted(row["id"] for row in node.rows("records") if row["status"] == "valid")
    keys = {who: authority.current_key(who) for who in authority.members()}
    return authority.digest, sorted(authority.evicted()), keys, valid, node.catalog()


async def spread(nodes: list[Node], rng: random.Random) -> None:
    """Everybody gets everything, in disorder, until nothing is news any more."""
    before: list[object] = []
    for _ in range(12):
        carried: list[tuple[Any, Any]] = [
            (paper, None) for node in nodes for paper in await node.ledger.roots()
        ]
        carried += [(None, batch) for node in nodes for batch in await node.batches()]
        for node in nodes:
            mine = carried + rng.sample(carried, len(carried) // 3)
            rng.shuffle(mine)
            for paper, batch in mine:
                if paper is None:
                    await node.ledger.apply([batch])
                else:
                    with contextlib.suppress(RegistryError):
                        await node.ledger.adopt(paper)
                    check_narrow(node)
        after = [await standing(node) for node in nodes]
        if after == before:
            return
        before = list(after)
    raise AssertionError("it never comes to rest")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(steps, min_size=4, max_size=18), seed=st.integers(0, 1 << 32))
async def test_any_order_gives_one_standing_and_no_wider_rights(
    history: list[tuple[Any, ...]], seed: int
) -> None:
    nodes = await mesh(COUNT)
    keys = [node.identity.key for node in nodes[:3]]
    await nodes[0].ledger.council.propose(lambda desk: desk.govern(keys, 2))
    for node in nodes[1:]:
        await deliver(nodes[0], node)
    for step in history:
        with contextlib.suppress(RegistryError):
            await act(nodes, step)
        nodes[0].clock.now += 0.5
        for node in nodes:
            check_narrow(node)
    await spread(nodes, random.Random(seed))
    found = [await standing(node) for node in nodes]
    assert all(each == found[0] for each in found)
    for node in nodes:  # every document in force has its quorum, from version 1 on
        rebase.verify_history(await node.ledger.roots())
