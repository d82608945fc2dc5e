"""Which key signs now, and what is on disk before it does."""

from __future__ import annotations

from pathlib import Path

from store import identity
from store.keys import Keys


async def test_a_key_is_on_disk_before_it_is_used(tmp_path: Path) -> None:
    first = identity.load(tmp_path)
    identity.settle(tmp_path)
    keys = Keys(first, tmp_path)
    following = first.rotate(bytes(32))
    await keys.keep(first.expecting(following))
    assert keys.current.key == first.key
    assert identity.load(tmp_path).held().keys() == {first.key, following.key}
    assert keys.signer(following.key).key == following.key
    assert keys.signer(None).key == keys.signer(b"unknown").key == first.key
    await keys.keep(following)
    assert identity.load(tmp_path) == keys.current == following
    assert keys.node == first.node
    assert not identity.moved(tmp_path)


async def test_a_moved_directory_stays_moved(tmp_path: Path) -> None:
    first = identity.load(tmp_path)
    identity.settle(tmp_path)
    (tmp_path / identity.PLACE_FILE).write_text("elsewhere\n")
    assert identity.moved(tmp_path)
    await Keys(first, tmp_path).keep(first.rotate())
    assert identity.moved(tmp_path)


async def test_without_a_directory_nothing_is_written(tmp_path: Path) -> None:
    keys = Keys(identity.Identity.generate())
    fresh = keys.current.rotate()
    await keys.keep(fresh)
    assert keys.current == fresh
    assert not list(tmp_path.iterdir())
