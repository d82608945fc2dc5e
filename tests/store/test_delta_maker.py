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


def run(folder: Path, old: bytes, new: bytes, limit: int) -> list[int]:
    """Make deltas; return the forms that there are."""
    arguments = []
    for name, data in (("old", old), ("new", new)):
        (folder / name).write_bytes(data)
        arguments += [str(Digest.of(data)), str(folder / name)]
    assert delta_maker.main([*arguments, str(folder / "made"), str(limit)]) == 0
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


def test_nothing_is_left_where_nothing_is_of_use(tmp_path: Path) -> None:
    assert run(tmp_path, BYTES, random.Random(2).randbytes(100_000), 90_000) == []
