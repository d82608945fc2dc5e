"""The process that makes deltas: which forms it leaves behind."""

from __future__ import annotations

import gzip
import random
import resource
from pathlib import Path

import pytest

from store import delta_maker
from store.delta import read_header
from store.delta_forms import PLAIN, UNPACKED
from store.digest import Digest


@pytest.fixture(autouse=True)
def _gentle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process of the tests as it is."""
    monkeypatch.setattr("os.nice", lambda _: 0)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)


def run(folder: Path, old: bytes, new: bytes, limit: int, room: int = 1 << 30) -> list[int]:
    """Make deltas; return the forms that there are."""
    arguments = []
    for name, data in (("old", old), ("new", new)):
        (folder / name).write_bytes(data)
        arguments += [str(Digest.of(data)), str(folder / name)]
    assert delta_maker.main([*arguments, str(folder / "made"), str(limit), str(room)]) == 0
    found = []
    for file in sorted(folder.glob("made.*")):
        header = read_header(file.read_bytes())
        assert header is not None
        assert file.name == f"made.{header[0].form}"
        assert file.stat().st_size <= limit
        found.append(header[0].form)
    return found


BYTES = random.Random(1).randbytes(100_000)
TEXT = BYTES.hex().encode()


def test_of_bytes_there_is_the_plain_one(tmp_path: Path) -> None:
    assert run(tmp_path, BYTES, b"new" + BYTES, 50_000) == [PLAIN]


def test_of_archives_the_unpacked_one_if_it_is_much_smaller(tmp_path: Path) -> None:
    old, new = gzip.compress(TEXT), gzip.compress(b"new" + TEXT)
    assert run(tmp_path, old, new, 10_000) == [UNPACKED]
    assert run(tmp_path, old, new, len(new)) == [PLAIN, UNPACKED]
    assert run(tmp_path, old, old + b"", 10_000) == [PLAIN]


def test_what_the_disk_has_otherwise_gets_none(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(BYTES)
    (tmp_path / "new").write_bytes(BYTES + b"new")
    names = [str(Digest.of(b"another")), str(Digest.of(BYTES + b"new"))]
    arguments = [names[0], str(tmp_path / "old"), names[1], str(tmp_path / "new")]
    assert delta_maker.main([*arguments, str(tmp_path / "made"), "90000", "1000000"]) == 1
    assert not [*tmp_path.glob("made.*")]


def test_what_unpacks_to_more_than_there_is_room_for_gets_the_plain_one(tmp_path: Path) -> None:
    old, new = gzip.compress(TEXT), gzip.compress(b"new" + TEXT)
    assert run(tmp_path, old, new, len(new), room=100_000) == [PLAIN]


def test_nothing_is_left_where_nothing_is_of_use(tmp_path: Path) -> None:
    assert run(tmp_path, BYTES, random.Random(2).randbytes(100_000), 90_000) == []


def test_what_would_take_too_long_is_given_up_early() -> None:
    now = 0.0
    watch = delta_maker.Watch(lambda: now)
    now = delta_maker.SURE - 1
    watch.beat(0.01)  # too soon to tell
    now = delta_maker.SURE + 1
    watch.beat(now / delta_maker.SHARE_MAX)
    watch.beat()
    with pytest.raises(delta_maker.TooLongError):
        watch.beat(0.9 * now / delta_maker.SHARE_MAX)
    now = delta_maker.SHARE_MAX + 1
    with pytest.raises(delta_maker.TooLongError):
        watch.beat()
    assert 2 * delta_maker.SHARE_MAX < delta_maker.CPU_MAX


def test_a_form_that_takes_too_long_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_maker, "SHARE_MAX", -1.0)
    assert run(tmp_path, BYTES, BYTES[:-1] + b"x", 100_000) == []
