"""A backup that is taken while clients publish restores to a node that serves what it did."""

from __future__ import annotations

import json
import random
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.nodes import NodeProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SIZE = 300_000


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


class Publishing:
    """A client that publishes one file after the other, and what was acknowledged."""

    def __init__(self, node: NodeProcess, token: str) -> None:
        self.node, self.token = node, token
        self.done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Publishing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.put(self.done)
            self.done += 1

    def put(self, number: int) -> None:
        url = f"{self.node.url}/general/generic/files/{number}"
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(url, content(number), headers, method="PUT")
        urllib.request.urlopen(request, timeout=60).close()


def get(node: NodeProcess, number: int) -> bytes:
    url = f"{node.url}/general/generic/files/{number}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    found = NodeProcess(tmp_path / "node").start()
    yield found
    found.kill()


def test_a_backup_under_load_restores(node: NodeProcess, tmp_path: Path) -> None:
    data, target = str(node.data), str(tmp_path / "target")
    with Publishing(node, node.token()) as client:
        while client.done < 5:
            threading.Event().wait(0.05)
        first = json.loads(node.command("backup", "--data", data, "--to", target, "--json"))
        before = client.done
        second = json.loads(
            node.command("backup", "--data", data, "--to", target, "--check", "--json")
        )
    assert first["damaged"] == second["damaged"] == []
    assert second["blobs"] >= first["blobs"] + second["copied"] - 1
    again = tmp_path / "again"
    node.command("restore", "--from", target, "--data", str(again))
    node.stop()
    restored = NodeProcess(again).start()
    try:
        for number in range(before):
            assert get(restored, number) == content(number)
        writer = Publishing(restored, restored.token(name="after"))
        writer.put(10_000)
        assert get(restored, 10_000) == content(10_000)
    finally:
        restored.kill()
