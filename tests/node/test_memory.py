"""Resident memory while a blob of any size comes and goes.

A real node takes a sparse file of ``MEMORY_TEST_MIB`` and gives it back; its resident memory is
read while it does.
"""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.conformance.nodes import NodeProcess

MIB = 1 << 20
SIZE = int(os.environ.get("MEMORY_TEST_MIB", "1024")) * MIB
GROWTH_MAX = 64 * MIB
PIECE = MIB
INTERVAL = 0.05  # seconds between two readings

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(120 + SIZE // (4 * MIB))]


class Memory:
    """The most resident memory of a process while the block runs."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._done = threading.Event()
        self.first = self.most = self.now()

    def now(self) -> int:
        """Resident bytes that are the process's own: mapped files are the page cache's."""
        found = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        return int(found["VmRSS"].split()[0]) << 10

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self.most = max(self.most, self.now())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    if not Path("/proc/self/status").exists():
        pytest.skip("reads /proc")
    found = NodeProcess(tmp_path / "node")
    found.start()
    yield found
    found.stop()


def test_a_large_blob_costs_little_memory(node: NodeProcess, tmp_path: Path) -> None:
    token = node.token("write")
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(SIZE)
    headers = {"authorization": f"Bearer {token}", "content-length": str(SIZE)}
    connection = http.client.HTTPConnection(node.address, timeout=300)
    connection.request("PUT", "/general/generic/small", b"x", {**headers, "content-length": "1"})
    connection.getresponse().read()  # what any first write loads is not this blob's
    with Memory(node.pid) as memory:
        with sparse.open("rb") as body:
            connection.request("PUT", "/general/generic/large", body, headers)
            assert connection.getresponse().read()
        uploaded = memory.most
        connection.request("GET", "/general/generic/large")
        answer = connection.getresponse()
        size = 0
        while piece := answer.read(PIECE):
            size += len(piece)
    connection.close()
    assert size == SIZE
    print(
        f"{SIZE // MIB} MiB: {memory.first / MIB:.0f} MiB resident before, "
        f"{uploaded / MIB:.0f} while uploading, {memory.most / MIB:.0f} at most"
    )
    assert memory.most - memory.first <= GROWTH_MAX
