"""curl and rclone against a generic repository."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import RunClient
from tests.conformance.nodes import NodeProcess

CURL = ("-sS", "--fail-with-body")


@pytest.fixture(scope="module")
def token(node: NodeProcess) -> str:
    return node.token("write")


def test_curl_publishes_and_fetches_awkward_names(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    data = samples.payload(2_000_000)
    (tmp_path / "f").write_bytes(data)
    url = f"{node.url}/general/generic/a%20b/c+d/%C3%BC%25.bin"
    run_client("curl", *CURL, "-u", f"me:{token}", "-T", tmp_path / "f", url)
    run_client("curl", *CURL, "-o", tmp_path / "g", url)
    assert (tmp_path / "g").read_bytes() == data


def test_curl_resumes(node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path) -> None:
    data = samples.payload(1_000_000, seed=2)
    (tmp_path / "f").write_bytes(data)
    url = f"{node.url}/general/generic/resumed.bin"
    run_client("curl", *CURL, "-u", f"me:{token}", "-T", tmp_path / "f", url)
    (tmp_path / "g").write_bytes(data[:400_000])
    run_client("curl", *CURL, "-C", "-", "-o", tmp_path / "g", url)
    assert (tmp_path / "g").read_bytes() == data


def test_a_wrong_checksum_is_refused(node: NodeProcess, token: str, run_client: RunClient) -> None:
    url = f"{node.url}/general/generic/wrong.txt"
    header = f"X-Checksum-Sha256: {hashlib.sha256(b'other').hexdigest()}"
    status = ["-o", "answer", "-w", "%{http_code}"]
    upload = ["-u", f"me:{token}", "-H", header, "-T", "-"]
    assert run_client("curl", "-sS", *status, *upload, url, stdin=b"this") == "400"
    assert run_client("curl", "-sS", *status, url) == "404"


def test_the_command_line_publishes_and_gets(node: NodeProcess, tmp_path: Path) -> None:
    data = samples.payload(700_000, seed=3)
    (tmp_path / "f").write_bytes(data)
    node.command("publish", "--data", str(node.data), str(tmp_path / "f"), "generic/cli/f.bin")
    node.command("get", "--data", str(node.data), "generic/cli/f.bin", str(tmp_path / "g"))
    assert (tmp_path / "g").read_bytes() == data
