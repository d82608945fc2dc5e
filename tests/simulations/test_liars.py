"""Vices: each of them really does what it is said to do."""

from __future__ import annotations

import dataclasses

import pytest

from simulations.forgery import LIES
from simulations.history import play
from simulations.liars import VICES
from simulations.plan import CORE, LIAR, LinkSpec, NodeSpec, Plan, Step

SIZE = 700_000


def company(vice: str, *steps: Step) -> Plan:
    """Two honest nodes and a liar, all linked; both honest ones want a blob that the other has."""
    nodes = (NodeSpec(CORE), NodeSpec(CORE), NodeSpec(LIAR, vice=vice))
    links = tuple(LinkSpec(one, two, 0.01) for one, two in ((0, 1), (0, 2), (1, 2)))
    work = (
        Step(0.5, "publish", (0, 0, "p")),
        Step(2.9 if vice == "boaster" else 1.0, "want", (2, 0, 0, 0)),  # it boasts of what it lacks
        Step(3.0, "want", (1, 0, 0, 0)),
    )
    early = tuple(Step(n / 100, "file", (2, f"e{n}", "1")) for n in (1, 2))  # before any link
    size = 4 * SIZE if vice == "corruptor" else SIZE  # who is asked for little may never lie
    return Plan(5, nodes, links, (size,), (*early, *work, *steps), 8.0)


@pytest.mark.parametrize("vice", VICES)
def test_a_liar_changes_the_history_and_harms_nobody(vice: str):
    lying = company(vice)
    meek = tuple(dataclasses.replace(node, vice="") for node in lying.nodes)
    told = play(lying)
    assert not told.failure
    assert told.bytes_carried != play(dataclasses.replace(lying, nodes=meek)).bytes_carried


@pytest.mark.parametrize("lie", LIES)
def test_a_forged_ledger_harms_nobody(lie: str):
    told = play(company("", Step(2.0, "file", (2, "f", "1")), Step(2.5, "lie", (2, lie))))
    assert not told.failure
    assert any(f"lies: {lie}" in line for line in told.history)


def test_forgeries_are_refused_for_what_they_are():
    lies = [Step(2.5 + n / 10, "lie", (2, "forge")) for n in range(6)]
    written = [Step(2.0, "file", (victim, f"f{victim}", "1")) for victim in (0, 1)]
    told = play(company("", *written, *lies))
    assert any(reason.startswith("refused: ") for reason in told.seen)
