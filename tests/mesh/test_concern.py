"""Write concern: what is asked for, and when it is reached."""

from __future__ import annotations

import pytest

from mesh.concern import Concern, read_concern
from store.errors import RejectedError

SITES = {"a": "harbour", "b": "harbour", "c": "ship", "d": "mine"}


@pytest.mark.parametrize("text", ["local", "replicated:1", "sites:3"])
def test_concerns_are_read_as_they_are_written(text: str) -> None:
    assert str(read_concern(text)) == text


@pytest.mark.parametrize("text", ["", "replicated", "replicated:0", "sites:x", "local:1", "all:2"])
def test_what_is_no_concern_is_refused(text: str) -> None:
    with pytest.raises(RejectedError):
        read_concern(text)


def test_members_count_each_and_sites_once_but_never_our_own() -> None:
    assert Concern("replicated", 2).reached(["a", "b"], SITES, "mine") == 2
    assert Concern("sites", 2).reached(["a", "b", "c"], SITES, "mine") == 2
    assert Concern("sites", 2).reached(["a", "b", "d", "gone"], SITES, "mine") == 1
    assert Concern("sites", 2).possible(SITES, SITES, "mine")
    assert not Concern("sites", 3).possible(SITES, SITES, "mine")
    assert Concern().possible([], {}, "mine")
