"""Shares between versions, on archives made here."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

from simulations.bench.versions import main, moved, shares

RNG = random.Random(4)
FILES = {f"f{number}": RNG.randbytes(RNG.randint(3_000, 30_000)) for number in range(40)}
CHANGED = {**FILES, "f20": b"changed"}


def zipped(files: dict[str, bytes], year: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), data)
    return made.getvalue()


def packed(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return made.getvalue()


def test_equal_versions_move_a_manifest_only() -> None:
    data = zipped(FILES, 2024)
    assert moved(data, data) < len(data) / 500
    assert shares(data, data).chunks == 1.0


def test_members_are_found_again_though_every_header_differs() -> None:
    told = shares(zipped(FILES, 2024), zipped(CHANGED, 2025))
    assert told.chunks < 0.2
    assert told.members is not None
    assert told.members > 0.9


def test_what_gzip_holds_is_found_again_and_made_again() -> None:
    old, new = (gzip.compress(packed(files), 9, mtime=0) for files in (FILES, CHANGED))
    told = shares(old, new)
    assert told.inside is not None
    assert told.inside > 0.9
    assert told.exact


def test_strangers_share_nothing_and_a_line_says_so(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(RNG.randbytes(600_000))
    line = main(tmp_path / "old", tmp_path / "new")
    assert line.startswith("new: 600000 bytes, moved 600")
    assert line.endswith("chunks 0.0%")
