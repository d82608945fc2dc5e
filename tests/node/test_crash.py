"""kill -9 at random moments: nothing acknowledged is lost, nothing half-written is shown.

Two real nodes: files are published to the first and fetched through the second, which has to get
them from the first, while one or the other is killed and started again.  ``CRASHES`` says how often.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.conformance.nodes import NodeProcess

CRASHES = int(os.environ.get("CRASHES", "10"))
SEED = int(os.environ.get("CRASH_SEED", "1"))
PATIENCE = 120.0  # seconds for one answer, on a machine that does much else
SAMPLE = 10  # older files that are looked at after each crash; at the end it is all of them

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 30 * CRASHES)]


def content(name: str) -> bytes:
    """What a file holds: small ones and ones of several chunks, made from the name."""
    rng = random.Random(name)
    return rng.randbytes(int(10 ** rng.uniform(1, 6.6)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(
    node: NodeProcess, method: str, name: str, body: bytes | None = None, token: str = ""
) -> tuple[int, bytes]:
    """One request.  Raises OSError or HTTPException when the node goes away meanwhile."""
    connection = http.client.HTTPConnection(node.address, timeout=PATIENCE)
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request(method, f"/general/generic/{name}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Traffic:
    """Publishes to one node and reads from the other until it is told to stop."""

    def __init__(self, home: NodeProcess, away: NodeProcess, token: str) -> None:
        self._home, self._away, self._token = home, away, token
        self._stop = threading.Event()
        self._count = 0
        self.acknowledged: list[str] = []
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._publish) for _ in range(2)]
        self._threads += [threading.Thread(target=self._fetch) for _ in range(2)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()

    def _publish(self) -> None:
        while not self._stop.is_set():
            self._count += 1
            name = f"{threading.get_ident()}/{self._count}"
            try:
                status, text = ask(self._home, "PUT", name, content(name), self._token)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if status == 201:
                self.acknowledged.append(name)
            elif status < 500:
                self.wrong.append(f"PUT {name}: {status} {text[:200]!r}")

    def _fetch(self) -> None:
        while not self._stop.is_set():
            name = random.choice(self.acknowledged or [""])
            with suppress(OSError, http.client.HTTPException):
                status, found = ask(self._away, "GET", name)
                if name and status == 200 and found != content(name):
                    self.wrong.append(f"GET {name}: other bytes, unnoticed")
            time.sleep(0.02)


def judge(node: NodeProcess, names: list[str]) -> None:
    """Every file is there, with its bytes."""
    for name in names:
        status, found = ask(node, "GET", name)
        assert status == 200, (name, status, found[:200])
        assert found == content(name), name


def judge_disk(node: NodeProcess, known: set[Path]) -> None:
    """What lies under a blob's name is that blob, whole."""
    for file in set((node.data / "blobs").glob("*/*")) - known:
        with file.open("rb") as opened:
            assert hashlib.file_digest(opened, "sha256").hexdigest() == file.name
        known.add(file)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    quiet = {
        "ATOLL_LOG_LEVEL": "error",
        "ATOLL_ACCESS_WRITES_PER_MINUTE": "1000000",
        "ATOLL_MESH_WAIT": "2",  # seconds; a client need not wait long for a node that was killed
    }
    home = NodeProcess(tmp_path / "home", arguments=["--mesh", ports[0]], environment=quiet)
    home.start()
    joining = ["--mesh", ports[1], "--join", home.invitation()]
    away = NodeProcess(tmp_path / "away", arguments=joining, environment=quiet)
    try:
        away.start()
        yield home, away
    finally:
        home.kill()
        away.kill()


def test_crashes_lose_nothing_and_show_nothing_half_done(
    nodes: tuple[NodeProcess, NodeProcess],
) -> None:
    home, away = nodes
    rng = random.Random(SEED)
    traffic = Traffic(home, away, home.token("write"))
    known: dict[NodeProcess, set[Path]] = {home: set(), away: set()}
    judged = 0
    for number in range(CRASHES):
        victim = away if number % 3 == 2 else home
        with traffic:
            time.sleep(rng.uniform(0.05, 1.5))
            victim.kill()
        assert traffic.wrong == []
        victim.start()
        for each, seen in known.items():
            judge_disk(each, seen)
        names = traffic.acknowledged
        judge(home, names[judged:] + rng.sample(names, min(SAMPLE, len(names))))
        judged = len(names)
    judge(home, traffic.acknowledged)
    judge(away, traffic.acknowledged[-50:])
    for each, seen in known.items():
        judge_disk(each, seen)
        each.stop()
    print(f"{CRASHES} crashes, {len(traffic.acknowledged)} acknowledged publishes")  # for -s
