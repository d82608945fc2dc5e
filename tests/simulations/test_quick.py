"""Both ports run the same statements to the same rows."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from simulations.disk import MemoryPort
from simulations.quick import QuickPort
from store import bulk, schema

claims, roots = schema.claims, schema.roots
ROWS = [(f"cell{n % 3}", bytes([n]) * 32, n, 10 * n, "author", b"fact") for n in range(9)]
BY_CELL = sa.select(claims).where(claims.c.cell.in_(sa.bindparam("cells", expanding=True)))


@pytest.fixture(params=[MemoryPort, QuickPort])
def port(request):
    made = request.param()
    made.look(lambda c: bulk.insert(c, claims, ROWS))
    yield made
    made.close()


def test_rows_are_found_by_place_and_by_name(port):
    query = sa.select(claims).where(claims.c.hlc >= 30).order_by(claims.c.hlc).limit(2)
    rows = port.look(lambda c: c.execute(query).all())
    assert [(row.cell, row[2], row.hlc) for row in rows] == [("cell0", 3, 30), ("cell1", 4, 40)]
    assert bytes(rows[0].record) == ROWS[3][1]


def test_equal_forms_with_other_values_give_other_rows(port):
    for cell in ("cell0", "cell2", "nothing"):
        query = sa.select(sa.func.count()).select_from(claims).where(claims.c.cell == cell)
        expected = sum(row[0] == cell for row in ROWS)
        assert port.look(lambda c, q=query: c.execute(q).scalar()) == expected


@pytest.mark.parametrize("cells", [["cell1"], ["cell0", "cell2"], ["cell0", "cell1", "cell2"]])
def test_a_list_of_any_length_can_be_given(port, cells):
    rows = port.look(lambda c: c.execute(BY_CELL, {"cells": cells}).all())
    assert {row.cell for row in rows} == set(cells)
    assert len(rows) == 3 * len(cells)


def test_rows_are_deleted(port):
    gone = sa.delete(claims).where(claims.c.cell == "cell0")
    assert port.look(lambda c: c.execute(gone).rowcount) == 3
    assert port.look(lambda c: c.execute(gone).rowcount) == 0
    assert port.look(lambda c: c.execute(sa.select(sa.func.count(claims.c.cell))).scalar()) == 6


def test_first_one_and_scalars(port):
    one = sa.select(claims.c.hlc).where(claims.c.ordinal == 4)
    assert port.look(lambda c: c.execute(one).one())[0] == 40
    assert port.look(lambda c: c.execute(one.where(claims.c.hlc == 1)).first()) is None
    assert port.look(lambda c: c.execute(one.where(claims.c.hlc == 1)).scalar()) is None
    assert port.look(lambda c: set(c.execute(sa.select(claims.c.cell)).scalars())) == {
        "cell0",
        "cell1",
        "cell2",
    }


def test_a_clone_goes_its_own_way(port):
    clone = port.copy()
    clone.look(lambda c: c.execute(sa.delete(claims)) and None)
    assert clone.look(lambda c: c.execute(sa.select(claims.c.cell)).first()) is None
    assert len(port.look(lambda c: c.execute(sa.select(claims.c.cell)).all())) == 9
    clone.close()
