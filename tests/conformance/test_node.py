"""The process that every other conformance test relies on: ready line, token, clean end."""

from __future__ import annotations

import json

import pytest

from tests.conformance.conftest import NewNode, RunClient
from tests.conformance.nodes import NodeFailure, NodeProcess

CURL = ("-sS", "--fail-with-body")


def test_it_answers_where_it_says(node: NodeProcess, run_client: RunClient) -> None:
    assert node.url.startswith("http://127.0.0.1:")
    run_client("curl", *CURL, f"{node.url}/health")


def test_its_admin_can_log_in(node: NodeProcess, run_client: RunClient) -> None:
    login = json.dumps({"username": "admin", "password": node.admin_password})
    request = ["-H", "Content-Type: application/json", "-d", login]
    answer = run_client("curl", *CURL, *request, f"{node.url}/api/v1/auth/login")
    assert json.loads(answer)["access_token"]


def test_its_token_writes_and_anyone_reads(node: NodeProcess, run_client: RunClient) -> None:
    url = f"{node.url}/general/generic/hello.txt"
    run_client("curl", *CURL, "-u", f"any:{node.token('write')}", "-T", "-", url, stdin=b"hello")
    assert run_client("curl", *CURL, url) == "hello"


def test_nobody_writes_without_a_token(node: NodeProcess, run_client: RunClient) -> None:
    url = f"{node.url}/general/generic/refused.txt"
    status = ["-o", "answer", "-w", "%{http_code}"]
    assert run_client("curl", "-sS", *status, "-T", "-", url, stdin=b"x") == "401"
    assert run_client("curl", "-sS", *status, url) == "404"


def test_an_acknowledged_file_survives_a_crash(new_node: NewNode, run_client: RunClient) -> None:
    crashing = new_node("crashing")
    upload = ["-u", f"any:{crashing.token('write')}", "--data-binary", "kept", "-X", "PUT"]
    run_client("curl", *CURL, *upload, f"{crashing.url}/general/generic/kept.txt")
    crashing.kill()
    crashing.start()
    assert run_client("curl", *CURL, f"{crashing.url}/general/generic/kept.txt") == "kept"


def test_a_node_that_cannot_start_says_why(new_node: NewNode) -> None:
    with pytest.raises(NodeFailure, match="ended with"):
        new_node("refused", arguments=["--no-such-option"])
