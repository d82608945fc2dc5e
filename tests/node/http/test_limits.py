"""Limits are values: bounded from the start, and not to be changed in passing."""

from __future__ import annotations

import dataclasses

import pytest

from node.http.limits import Limits


def test_every_limit_is_set_but_that_on_bodies() -> None:
    """A route bounds bodies; nothing else may be without bound."""
    for name, value in dataclasses.asdict(Limits()).items():
        assert value is None if name == "body_size_max" else value > 0, name


def test_limits_do_not_change_under_a_running_server() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().idle_timeout = 1.0  # type: ignore[misc]  # that it cannot be set is the test
