"""kill -9 while blobs are ingested and fetched: what was acknowledged is there, and nothing else.

ATOLL_CRASHES sets how often (10 by default; the long run takes hundreds).
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.bitmap import Saved
from store.chunks import Manifest
from store.files import FileStore
from store.partial_folder import DATA, HAVE, stored_manifest
from store.partials import Partials
from tests.store.crash_worker import fetched, manifest_of

CRASHES = int(os.environ.get("ATOLL_CRASHES", "10"))
REPOSITORY = Path(__file__).parents[2]


def run_and_kill(root: Path, seed: int, rng: random.Random) -> list[str]:
    """Let the worker run for a moment, kill it, and return what it acknowledged."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.store.crash_worker", str(root), str(seed)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert worker.stdout is not None
    first = worker.stdout.readline()  # it has begun
    time.sleep(rng.uniform(0, 0.4))
    worker.send_signal(signal.SIGKILL)
    rest = worker.communicate()[0]
    assert worker.returncode == -signal.SIGKILL
    return (first + rest).decode().split()


def check_visible(root: Path, acknowledged: set[str]) -> None:
    """Every file under ``blobs`` is whole; every acknowledged one is there."""
    visible = set()
    for file in (root / "blobs").glob("*/*"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name
        assert file.parent.name == file.name[:2]
        visible.add(f"sha256:{file.name}")
    assert acknowledged <= visible


def claimed(folder: Path) -> tuple[Manifest, set[int]] | None:
    """Return what a bitmap claims, having checked each claim against the bytes."""
    manifest = stored_manifest(folder)
    if manifest is None or not (folder / HAVE).exists():
        return None
    saved = Saved.decode((folder / HAVE).read_bytes(), len(manifest.chunks))
    assert saved is not None, "a bitmap is replaced whole, or not at all"
    data = (folder / DATA).read_bytes()
    for index in saved.have:
        start, stop = manifest.offset(index), manifest.offset(index + 1)
        assert hashlib.sha256(data[start:stop]).digest() == manifest.chunks.sha256(index)
    return manifest, set(saved.have)


async def check_resumes(root: Path) -> None:
    """What was claimed is still there after a restart, and the rest makes it whole."""
    found = [claimed(folder) for folder in (root / "partial").iterdir()]
    store, partials = FileStore(root), Partials(root / "partial")
    await store.open()
    assert list((root / "tmp").iterdir()) == []
    resumable = await partials.load()
    for claim in found:
        if claim is None:
            continue
        manifest, have = claim
        assert manifest in resumable
        blob = await partials.open(manifest)
        assert have <= {n for n in range(len(manifest.chunks)) if blob.have(n)}
        if len(have) % 3 == 0:  # finish some here, and leave some to the next process
            data = next(
                each for each in map(fetched, range(10_000)) if manifest_of(each) == manifest
            )
            for index in list(blob.missing):
                await blob.write(index, data[manifest.offset(index) : manifest.offset(index + 1)])
            await blob.complete(store)
            assert await store.verify(manifest.blob)
    await partials.close()


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * CRASHES)
async def test_killed_at_any_moment(tmp_path: Path) -> None:
    rng = random.Random(7)
    acknowledged: set[str] = set()
    for seed in range(CRASHES):
        acknowledged |= set(run_and_kill(tmp_path, seed, rng))
        check_visible(tmp_path, acknowledged)
        await check_resumes(tmp_path)
    assert len(acknowledged) > CRASHES
