"""What connections share: bounds on bodies, and the limits in Hypercorn's terms."""

from __future__ import annotations

import pytest

from node.http.context import Context
from node.http.limits import Limits
from tests.node.http.support import echo


@pytest.mark.parametrize(
    ("server", "route", "effective"), [(None, None, None), (5, None, 5), (5, 3, 3), (None, 9, 9)]
)
def test_the_tighter_bound_on_a_body_holds(
    server: int | None, route: int | None, effective: int | None
) -> None:
    context = Context(echo, Limits(body_size_max=server), lambda _: route)
    assert context.body_size_max({}) == effective
