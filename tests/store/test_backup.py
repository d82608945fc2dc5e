"""A snapshot is one whole state; what is damaged is told, never passed on."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from store import backup
from store.errors import ConflictError, NotFoundError, RejectedError, UnavailableError


def put(data: Path, content: bytes) -> str:
    name = hashlib.sha256(content).hexdigest()
    file = data / "blobs" / name[:2] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return name


def insert(data: Path, *values: int) -> None:
    for name in backup.DATABASES:
        with closing(sqlite3.connect(data / name)) as database, database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE IF NOT EXISTS t (x)")
            database.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])


def values(data: Path) -> list[int]:
    with closing(sqlite3.connect(data / "facts.db")) as database:
        return [row[0] for row in database.execute("SELECT x FROM t ORDER BY x")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "mesh").mkdir(parents=True)
    insert(folder, 1)
    put(folder, b"one")
    (folder / "node.key").write_text("secret\n")
    (folder / "node.key").chmod(0o600)
    (folder / "node.place").write_text("12\n")
    (folder / "mesh" / "addresses").write_text("a\n")
    for passing in ("control.json", "lock", "reserve", "facts.db-wal"):
        (folder / passing).touch()
    (folder / "partial" / "x").mkdir(parents=True)
    (folder / "partial" / "x" / "data").touch()
    (folder / "deltas" / "blobs" / "ab").mkdir(parents=True)
    (folder / "deltas" / "blobs" / "ab" / "abc").touch()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def moments() -> Iterator[float]:
    return iter(range(1_000_000, 2_000_000))


def test_what_comes_back_is_what_was_there(data: Path, target: Path, tmp_path: Path) -> None:
    report = backup.take(data, target, now=0.0)
    assert (report.name, report.blobs, report.copied, report.damaged) == (
        "19700101T000000Z",
        1,
        1,
        [],
    )
    assert backup.check(target, report.name) == []
    again = tmp_path / "again"
    restored = backup.restore(target, "", again)
    assert (restored.copied, restored.copied_bytes) == (1, 3)
    assert sorted(str(p.relative_to(again)) for p in again.rglob("*") if p.is_file()) == sorted(
        ["facts.db", "local.db", "mesh/addresses", "node.key", "node.place"]
        + [f"blobs/{name[:2]}/{name}" for name, _ in backup._blobs(again / "blobs")]
    )
    assert values(again) == [1]
    assert (again / "node.key").stat().st_mode & 0o777 == 0o600
    assert again.stat().st_mode & 0o777 == 0o700
    assert not (again / "node.place").read_text().strip().isdecimal()  # no inode: it has moved
    with pytest.raises(ConflictError, match="not empty"):
        backup.restore(target, "", again)


def test_only_what_is_new_is_copied(data: Path, target: Path, moments: Iterator[float]) -> None:
    first = backup.take(data, target, now=next(moments))
    two = put(data, b"two!")
    insert(data, 2)
    second = backup.take(data, target, now=next(moments))
    assert (second.blobs, second.copied, second.copied_bytes) == (2, 1, 4)
    assert [name for name, _ in backup.snapshots(target)] == [first.name, second.name]
    (data / "blobs" / two[:2] / two).unlink()
    third = backup.take(data, target, now=next(moments))
    assert (third.blobs, third.copied) == (1, 0)
    assert backup.prune(target, 2) == 0
    assert backup.prune(target, 1) == 1
    assert [name for name, _ in backup.snapshots(target)] == [third.name]
    assert backup.check(target, third.name) == []
    assert [name for name, _ in backup._blobs(target / "blobs")] == [
        hashlib.sha256(b"one").hexdigest()
    ]
    with pytest.raises(RejectedError):
        backup.prune(target, 0)


def test_two_in_one_second_are_two(data: Path, target: Path) -> None:
    names = [backup.take(data, target).name for _ in range(3)]
    assert [name for name, _ in backup.snapshots(target)] == names
    assert len(set(names)) == 3


def test_a_state_is_one_state_while_others_write(data: Path, target: Path) -> None:
    with closing(sqlite3.connect(data / "facts.db")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (9)")
        report = backup.take(data, target)
        writer.execute("COMMIT")
    assert values(target / "snapshots" / report.name) == [1]
    assert values(data) == [1, 9]


def test_damaged_blobs_are_told_and_left_out(data: Path, target: Path, tmp_path: Path) -> None:
    name = put(data, b"two")
    (data / "blobs" / name[:2] / name).write_bytes(b"tw0")
    report = backup.take(data, target)
    assert (report.damaged, report.blobs) == ([name], 1)
    assert not (target / "blobs" / name[:2] / name).exists()
    one = hashlib.sha256(b"one").hexdigest()
    (target / "blobs" / one[:2] / one).write_bytes(b"0ne")
    (target / "snapshots" / report.name / "mesh" / "addresses").write_text("b\n")
    assert backup.check(target, report.name) == ["mesh/addresses", f"blobs/{one}"]
    with pytest.raises(RejectedError, match="addresses is damaged"):
        backup.restore(target, report.name, tmp_path / "again")
    assert not (tmp_path / "again" / "node.key").exists()


def test_an_unfinished_snapshot_does_not_count(data: Path, target: Path, tmp_path: Path) -> None:
    report = backup.take(data, target)
    (target / "snapshots" / report.name / backup.SUMMARY).unlink()
    assert backup.snapshots(target) == []
    with pytest.raises(NotFoundError):
        backup.restore(target, "", tmp_path / "again")
    with pytest.raises(ConflictError):
        backup.take(data, target, now=_moment(report.name))


def _moment(name: str) -> float:
    from datetime import UTC, datetime

    return datetime.strptime(name, backup.NAME).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("evil", ["../x", "/etc/x", "a/../../x"])
def test_nothing_lands_outside(data: Path, target: Path, tmp_path: Path, evil: str) -> None:
    report = backup.take(data, target)
    file = target / "snapshots" / report.name / backup.SUMMARY
    file.write_text(file.read_text().replace("mesh/addresses", evil))
    with pytest.raises(RejectedError, match="names"):
        backup.restore(target, report.name, tmp_path / "again")
    listing = file.with_name(backup.LIST)
    listing.write_text("../../x 1\n")
    with pytest.raises(RejectedError, match="damaged"):
        list(backup._listed(listing))


def test_other_databases_and_damaged_ones_are_refused(data: Path, target: Path) -> None:
    with pytest.raises(NotFoundError, match="pg_dump"):
        backup.take(data / "mesh", target)
    (data / "facts.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(UnavailableError, match=r"facts\.db cannot be copied"):
        backup.take(data, target)
