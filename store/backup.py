"""Backups of a data directory while its node runs: verified, incremental, restored to a new place.

``TARGET/blobs`` holds every blob once, shared by all snapshots; ``TARGET/snapshots/TIME`` holds one
state of the databases and the small files, with the list of the blobs that were there, and
``backup.json``, which is written last: a snapshot without it is unfinished.  The databases are
copied first: whatever they name was on the disk before, and garbage collection spares what they
name for its grace period.  Everything is hashed on its way.  Blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from store import disk
from store.errors import ConflictError, NotFoundError, RejectedError, UnavailableError
from store.identity import PLACE_FILE

PIECE = 1 << 20
DATABASES = ("facts.db", "local.db")
# What is made anew, belongs to the running process, or is worth nothing elsewhere.
SKIPPED = frozenset(
    {
        "control.json",
        "lock",
        "reserve",
        "blobs",
        "deltas",
        "partial",
        "sessions",
        "tmp",
        "gnupg.home",
    }
)
SKIPPED_SUFFIXES = (".db", ".db-wal", ".db-shm", ".part", ".draft")
LIST, SUMMARY = "blobs.txt", "backup.json"
NAME = "%Y%m%dT%H%M%SZ"
BLOB = re.compile(r"([0-9a-f]{64}) ([0-9]{1,18})\n")

Progress = Callable[[str, int], None]  # what is being done, and bytes since the last call


class Summary(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``backup.json``: what a snapshot holds.  ``files`` maps relative paths to SHA-256 hex."""

    format: int = 1
    taken: float  # seconds since 1970
    files: dict[str, str]
    blobs: int
    bytes: int


@dataclass(slots=True)
class Report:
    """What a run did.  ``damaged`` are blobs whose bytes no longer hash to their names."""

    name: str = ""
    blobs: int = 0
    copied: int = 0
    copied_bytes: int = 0
    damaged: list[str] = field(default_factory=list[str])


def _quiet(_: str, __: int) -> None:
    """Report nothing."""


def _name(moment: float) -> str:
    return time.strftime(NAME, time.gmtime(moment))


# --- taking --------------------------------------------------------------------------------------
def take(
    data: Path, target: Path, *, now: float | None = None, progress: Progress = _quiet
) -> Report:
    """Add a snapshot of a data directory.  Raises NotFoundError, ConflictError,
    UnavailableError for a database that cannot be read, RejectedError for a damaged one.
    """
    if not (data / "facts.db").is_file():
        raise NotFoundError(f"{data} keeps no SQLite database (PostgreSQL: use pg_dump)")
    moment = time.time() if now is None else now
    if now is None:
        while (target / "snapshots" / _name(moment)).exists():
            moment += 1  # names are seconds, and a small node is copied in less
    report = Report(_name(moment))
    folder = target / "snapshots" / report.name
    if folder.exists():
        raise ConflictError(f"{folder} exists")
    with disk.disk_errors():
        folder.mkdir(parents=True, mode=0o700)
        files = {name: _copy_database(data / name, folder / name) for name in DATABASES}
        progress("databases", 0)
        for path in _small_files(data):
            files[str(path)] = _copy(data / path, folder / path)
        total = _copy_blobs(data / "blobs", target / "blobs", folder / LIST, report, progress)
        files[LIST] = _hash(folder / LIST)
        summary = Summary(taken=moment, files=files, blobs=report.blobs, bytes=total)
        disk.replace_file(folder / SUMMARY, msgspec.json.format(msgspec.json.encode(summary)))
    return report


def _copy_database(source: Path, target: Path) -> str:
    """Copy one state of a database that others write to, and check the copy."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA busy_timeout = 60000")
            database.execute("VACUUM INTO ?", (str(target),))
        with contextlib.closing(sqlite3.connect(target)) as copy:
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise UnavailableError(f"{source.name} cannot be copied: {error}") from error
    if verdict != "ok":
        raise RejectedError(f"{source.name} is damaged: {verdict}")
    target.chmod(0o600)
    _sync(target)
    return _hash(target)


def _small_files(data: Path) -> Iterator[Path]:
    """Name what else makes a node, relative to its directory."""
    for path in sorted(data.rglob("*")):
        found = path.relative_to(data)
        ours = found.parts[0] not in SKIPPED and found.name != PLACE_FILE
        if ours and not found.name.endswith(SKIPPED_SUFFIXES) and path.is_file():
            yield found


def _copy_blobs(
    source: Path, target: Path, listing: Path, report: Report, progress: Progress
) -> int:
    """Copy what the target lacks, and list what there is in order.  Returns the bytes listed."""
    total = 0
    with listing.open("w", encoding="ascii") as lines:
        for name, path in _blobs(source):
            try:
                size = path.stat().st_size
                copy = target / name[:2] / name
                if not copy.is_file() or copy.stat().st_size != size:
                    if not _copy_blob(path, copy, name):
                        report.damaged.append(name)
                        continue
                    report.copied += 1
                    report.copied_bytes += size
                    progress("blobs", size)
            except FileNotFoundError:
                continue  # collected since the walk saw it: the snapshot does not name it
            report.blobs += 1
            total += size
            lines.write(f"{name} {size}\n")
        lines.flush()
        os.fsync(lines.fileno())
    return total


def _blobs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Walk a blob folder in order, one shard in memory at a time."""
    shards = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for shard in shards:
        for path in sorted(shard.iterdir()):
            if BLOB.fullmatch(f"{path.name} 0\n"):
                yield path.name, path


def _copy_blob(source: Path, target: Path, name: str) -> bool:
    """Copy a blob under its name once its bytes have shown to be right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{name}.draft")
    try:
        if _copy(source, draft) != name:
            return False
        draft.replace(target)
        disk.sync_folder(target.parent)
        return True
    finally:
        draft.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> str:
    """Copy a file durably; the SHA-256 of what was copied."""
    value = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(PIECE):
            value.update(piece)
            writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())
    shutil.copymode(source, target)
    return value.hexdigest()


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


# --- looking -------------------------------------------------------------------------------------
def snapshots(target: Path) -> list[tuple[str, Summary]]:
    """List the finished snapshots, oldest first.  Raises RejectedError for one that is damaged."""
    folder = target / "snapshots"
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    return [(name, read(target, name)) for name in names if (folder / name / SUMMARY).exists()]


def read(target: Path, name: str) -> Summary:
    """Read a snapshot's summary.  Raises NotFoundError, RejectedError."""
    file = target / "snapshots" / name / SUMMARY
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Summary)
    except FileNotFoundError:
        raise NotFoundError(f"no finished snapshot {name} in {target}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedError(f"{file}: {error}") from error
    for each in found.files:  # a backup may have been in strange hands: nothing lands outside
        path = PurePosixPath(each)
        if path.is_absolute() or ".." in path.parts or LIST not in found.files:
            raise RejectedError(f"{file} names {each!r}")
    return found


def check(target: Path, name: str, *, progress: Progress = _quiet) -> list[str]:
    """Hash a whole snapshot, its blobs included; name what is damaged or missing."""
    summary, folder = read(target, name), target / "snapshots" / name
    bad = [
        file
        for file, digest in sorted(summary.files.items())
        if not (folder / file).is_file() or _hash(folder / file) != digest
    ]
    for blob, size in _listed(folder / LIST):
        copy = target / "blobs" / blob[:2] / blob
        if not copy.is_file() or _hash(copy) != blob:
            bad.append(f"blobs/{blob}")
        progress("check", size)
    return bad


def _listed(listing: Path) -> Iterator[tuple[str, int]]:
    """The blobs of a snapshot, in order.  Raises RejectedError."""
    with listing.open(encoding="ascii") as lines:
        for line in lines:
            found = BLOB.fullmatch(line)
            if found is None:
                raise RejectedError(f"{listing} is damaged")
            yield found[1], int(found[2])


# --- restoring -----------------------------------------------------------------------------------
def restore(target: Path, name: str, data: Path, *, progress: Progress = _quiet) -> Report:
    """Make a data directory of a snapshot, newest if ``name`` is "".  Everything is hashed.

    The node that starts there begins a new incarnation: it may have written more since the backup.
    Raises ConflictError for a directory that is not empty, RejectedError for a damaged snapshot.
    """
    if not name:
        name = next((each for each, _ in reversed(snapshots(target))), "")
    summary, folder = read(target, name), target / "snapshots" / name
    if data.exists() and any(data.iterdir()):
        raise ConflictError(f"{data} is not empty")
    report = Report(name)
    with disk.disk_errors():
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        data.chmod(0o700)
        for blob, size in _listed(folder / LIST):
            copy, place = target / "blobs" / blob[:2] / blob, data / "blobs" / blob[:2] / blob
            if not copy.is_file() or not _copy_blob(copy, place, blob):
                report.damaged.append(blob)
                continue
            report.copied += 1
            report.copied_bytes += size
            progress("blobs", size)
        # The key last: without it the directory is no node's yet, however this may end.
        for file in sorted(summary.files, key=lambda each: each == "node.key"):
            if file == LIST:
                continue
            if _copy(folder / file, data / file) != summary.files[file]:
                raise RejectedError(f"{folder / file} is damaged")
            if file == "node.key":
                (data / PLACE_FILE).write_text("restored\n", "ascii")
    return report


# --- forgetting ----------------------------------------------------------------------------------
def prune(target: Path, keep: int) -> int:
    """Remove all but the newest ``keep`` snapshots, and blobs that none of them lists; how many.

    Unfinished snapshots older than the newest go too; a newer one is somebody's who is at work.
    Raises RejectedError for ``keep`` < 1.
    """
    if keep < 1:
        raise RejectedError("at least one snapshot must stay")
    names = [name for name, _ in snapshots(target)]
    kept = names[-keep:]
    if not kept:
        return 0
    with disk.disk_errors():
        for folder in sorted((target / "snapshots").iterdir()):
            if folder.name not in kept and folder.name < kept[-1]:
                (folder / SUMMARY).unlink(missing_ok=True)  # unfinished, wherever this may stop
                shutil.rmtree(folder)
        needed = heapq.merge(*(_listed(target / "snapshots" / name / LIST) for name in kept))
        return _remove_unlisted(target / "blobs", (name for name, _ in needed))


def _remove_unlisted(folder: Path, needed: Iterable[str]) -> int:
    """Remove blobs that a sorted list does not name, both walked in step."""
    removed, names = 0, iter(needed)
    wanted = next(names, None)
    for name, path in _blobs(folder):
        while wanted is not None and wanted < name:
            wanted = next(names, None)
        if wanted != name:
            path.unlink()
            removed += 1
    return removed
