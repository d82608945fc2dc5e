"""What large work and those who wait meanwhile are measured by."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from simulations.bench import upkeep
from simulations.bench.servers import Server

ENDS = {
    "/api/v1/admin/lifecycle": {},
    "/api/v1/admin/lifecycle/plan": {"versions": 3},
    "/api/v1/admin/lifecycle/apply": {"removed": 2},
    "/api/v1/admin/lifecycle/growth": {},
    "/api/v1/verify": {"findings": 0, "records": 7},
}


class Node(BaseHTTPRequestHandler):
    """Answers as a node does, and does nothing."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        last = json.dumps(ENDS.get(self.path, {})).encode()
        body = b'{"type":"progress"}\n' + last + b"\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  the names it looks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Node) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{listening.server_port}"
        found = Server("atoll", "", (), {}, url, "/", tmp_path, "", 0)
        object.__setattr__(found, "process", Process())
        yield found
        listening.shutdown()
        thread.join()


class Process:
    pid = os.getpid()


def test_work_is_told_with_who_waited(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(upkeep, "PUBLISH_EVERY", 2)
    values: dict[str, float] = {}
    upkeep.retain(server, "pypi", values)
    assert (values["planned_versions"], values["apply_versions"]) == (3, 2)
    assert values["apply_cpu_seconds_per_version"] == values["apply_cpu_seconds"] / 2
    upkeep.verify(server, values)
    assert values["verify_records"] == 7
    assert {"verify_seconds", "verify_cpu_seconds", "verify_grown_bytes"} <= values.keys()
    with upkeep.beside(server, "rest", values):
        pass
    assert values["rest_grown_bytes"] >= 0


def test_a_damaged_node_is_no_figure(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENDS, "/api/v1/verify", {"findings": 1})
    with pytest.raises(ValueError, match="damaged"):
        upkeep.verify(server, {})
