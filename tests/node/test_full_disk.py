"""A disk that is full or read-only: clients are told, nothing half-written stays, and it recovers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.node.world import World, world
from tests.store.test_full_disk import mount

MIB = 1 << 20
SIZE = 56 * MIB
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, f"size={SIZE}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def auth(node: World) -> dict[str, str]:
    return {"authorization": f"Bearer {node.token}"}


def noise(size: int) -> bytes:
    return os.urandom(size)


def fill(file: Path) -> None:
    """Take every byte that is left."""
    with file.open("ab", buffering=0) as opened, suppress(OSError):
        while True:
            opened.write(bytes(4096))


async def run(*command: str) -> None:
    await trio.run_process(command)


async def test_a_full_disk_is_told_and_the_node_recovers(disk: Path) -> None:
    async with world(disk) as node:
        kept = noise(5 * MIB)
        put = await node.ask("PUT", "/general/generic/kept", kept, auth(node))
        assert put.status == 201
        filler = disk / "filler"
        with filler.open("wb") as file:
            file.write(bytes(shutil.disk_usage(disk).free - 6 * MIB))
        for path in ("/general/generic/large", "/maven/maven/a/b/1/b-1.jar"):
            refused = await node.ask("PUT", path, noise(9 * MIB), auth(node))
            assert refused.status == 507, (path, refused.status, refused.body)
            assert b"no space left" in refused.body
        upload = await node.ask("POST", "/v2/docker/app/blobs/uploads/", b"", auth(node))
        chunk = await node.ask("PATCH", upload.headers["location"], noise(9 * MIB), auth(node))
        assert chunk.status == 507
        assert chunk.json["errors"][0]["message"]
        assert list((node.core.config.path / "tmp").iterdir()) == []
        assert (await node.ask("GET", "/general/generic/kept")).body == kept

        fill(filler)
        small = await node.ask("PUT", "/general/generic/small", b"x", auth(node))
        assert small.status == 507, small.body
        unwell = await node.ask("GET", "/health")
        assert unwell.status == 503
        assert (await node.ask("GET", "/general/generic/kept")).body == kept

    async with world(disk) as node:  # it starts on a full disk, and serves
        assert (await node.ask("GET", "/general/generic/kept")).body == kept
        fill(filler)
        small = await node.ask("PUT", "/general/generic/small", b"x", auth(node))
        assert small.status == 507, small.body

        filler.unlink()
        again = await node.ask("PUT", "/general/generic/large", noise(9 * MIB), auth(node))
        assert again.status == 201, again.body
    async with world(disk) as node:
        assert (await node.ask("GET", "/health")).status == 200
        assert (await node.ask("GET", "/general/generic/kept")).body == kept
        assert (await node.ask("GET", "/general/generic/small")).status == 404


async def test_a_read_only_disk_is_told_and_the_node_recovers(disk: Path) -> None:
    async with world(disk) as node:
        folder = node.core.config.path
        assert (await node.ask("PUT", "/general/generic/kept", b"x", auth(node))).status == 201
        # A disk with open files cannot be made read-only; what is opened from now on can.
        await run("mount", "--bind", str(folder), str(folder))
        try:
            await run("mount", "-o", "remount,ro,bind", str(folder))
            for size in (1, 2 * MIB):
                refused = await node.ask("PUT", "/general/generic/new", noise(size), auth(node))
                assert refused.status == 503, refused.body
                assert b"cannot be written" in refused.body
            upload = await node.ask("POST", "/v2/docker/app/blobs/uploads/", b"", auth(node))
            assert upload.status == 503, upload.body
            unwell = await node.ask("GET", "/health")
            assert unwell.status == 503
            assert "cannot be written" in unwell.json["checks"]["storage"]
            assert (await node.ask("GET", "/general/generic/kept")).body == b"x"
        finally:
            await run("umount", "--lazy", str(folder))
        assert (await node.ask("PUT", "/general/generic/new", b"new", auth(node))).status == 201
