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


def test_hypercorn_keeps_to_the_same_limits() -> None:
    config = Context(echo, Limits(idle_timeout=7.0, streams_max=9, head_size_max=999)).config
    assert config.keep_alive_timeout == 7.0
    assert config.h2_max_concurrent_streams == 9
    assert config.h11_max_incomplete_size == 999
    assert config.accesslog is None
