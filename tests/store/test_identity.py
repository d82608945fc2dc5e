"""The node key: made once, kept private, never mistaken."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from store import identity
from store.errors import RejectedError


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first = identity.load(tmp_path)
    assert identity.load(tmp_path) == first
    assert first.node == identity.node_id(first.first_key)
    assert stat.S_IMODE((tmp_path / identity.KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [identity.KEY_FILE]


@pytest.mark.parametrize("text", ["", "garbage", "atoll node key 1\nseed: 00\nfirst: 00\n", "\xff"])
def test_a_damaged_key_is_an_error_and_not_a_new_node(tmp_path: Path, text: str) -> None:
    (tmp_path / identity.KEY_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(RejectedError):
        identity.load(tmp_path)


def test_signatures_hold_for_one_key_and_one_message() -> None:
    one, other = identity.Identity.generate(), identity.Identity.generate()
    signature = one.sign(b"message")
    assert identity.verify(one.key, b"message", signature)
    assert not identity.verify(one.key, b"another", signature)
    assert not identity.verify(other.key, b"message", signature)
    assert not identity.verify(b"no key", b"message", signature)
    assert not identity.verify(one.key, b"message", b"short")


def test_a_rotated_key_keeps_the_node(tmp_path: Path) -> None:
    old = identity.load(tmp_path)
    new = old.rotate()
    identity.save(tmp_path, new)
    assert identity.load(tmp_path) == new
    assert (new.node, new.key == old.key) == (old.node, False)


def test_secrets_do_not_show() -> None:
    one = identity.Identity.generate()
    assert one.seed.hex() not in repr(one)
    assert repr(one.seed) not in repr(one)


def test_a_copied_directory_is_noticed(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    home.mkdir()
    identity.load(home)
    assert not identity.moved(home)
    identity.settle(home)
    assert not identity.moved(home)
    shutil.copytree(home, copy)
    assert identity.moved(copy)
    identity.settle(copy)
    assert not identity.moved(copy)
    assert not identity.moved(home)


def test_incarnations_rise_and_fit_the_wire() -> None:
    first = identity.new_incarnation(now=1_700_000_000.0)
    assert identity.new_incarnation(first, now=0.0) == first + 1
    assert first < 1 << 62
