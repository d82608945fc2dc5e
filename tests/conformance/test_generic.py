"""curl, wget and rclone against a generic repository."""

from __future__ import annotations

import filecmp
import hashlib
from collections.abc import Callable
from pathlib import Path

from tests.conformance import samples
from tests.conformance.conftest import ClientPath, HttpStatus, RunClient
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CURL = ("-sS", "--fail-with-body")


def test_printed_settings_let_curl_publish_fetch_and_list(
    node: NodeProcess, token: str, client: ClientPath, run_shell: RunClient, tmp_path: Path
) -> None:
    client("curl")
    data = samples.payload(2_000_000)
    (tmp_path / "app.tar.gz").write_bytes(data)
    upload, download, listing = [
        line for line in printed(node, "curl", token).shell.splitlines() if line.startswith("curl")
    ]
    run_shell(upload, cwd=tmp_path)
    (tmp_path / "app.tar.gz").unlink()
    run_shell(download, cwd=tmp_path)
    assert (tmp_path / "app.tar.gz").read_bytes() == data
    assert "app.tar.gz" in run_shell(listing, cwd=tmp_path)


def test_awkward_names_come_back(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    data = samples.payload(50_000, seed=4)
    (tmp_path / "f").write_bytes(data)
    url = f"{node.url}/general/generic/a%20b/c+d/%C3%BC%25.bin"
    run_client("curl", *CURL, "-u", f"me:{token}", "-T", tmp_path / "f", url)
    run_client("wget", "-q", "-O", tmp_path / "g", url)
    assert (tmp_path / "g").read_bytes() == data


def test_curl_and_wget_resume(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    data = samples.payload(1_000_000, seed=2)
    (tmp_path / "f").write_bytes(data)
    url = f"{node.url}/general/generic/resumed.bin"
    run_client("curl", *CURL, "-u", f"me:{token}", "-T", tmp_path / "f", url)
    for command in (["curl", *CURL, "-C", "-", "-o"], ["wget", "-q", "-c", "-O"]):
        (tmp_path / "g").write_bytes(data[:400_000])
        run_client(*command, tmp_path / "g", url)
        assert (tmp_path / "g").read_bytes() == data


def test_other_bytes_and_wrong_checksums_are_refused(
    node: NodeProcess, token: str, http_status: HttpStatus, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"this")
    upload = ["-u", f"me:{token}", "-T", tmp_path / "f"]
    url = f"{node.url}/general/generic/once.txt"
    wrong = f"X-Checksum-Sha256: {hashlib.sha256(b'other').hexdigest()}"
    assert http_status(url, *upload, "-H", wrong) == 400
    assert http_status(url) == 404
    assert http_status(url, *upload) == 201
    (tmp_path / "f").write_bytes(b"other")
    assert http_status(url, *upload) == 409


def test_printed_settings_let_rclone_copy_sync_and_list(
    node: NodeProcess,
    token: str,
    client_env: dict[str, str],
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    printed(node, "rclone", token).write(Path(client_env["HOME"]), tmp_path)
    source, target = tmp_path / "source", tmp_path / "target"
    files = ["one.bin", "deep/er/two.bin", "deep/ü b.bin"]
    for number, name in enumerate(files):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(samples.payload(80_000, seed=number))
    run_client("rclone", "copy", source, "generic:release")
    run_client("rclone", "sync", "generic:release", target)
    assert filecmp.cmpfiles(source, target, files, shallow=False) == (files, [], [])
    (source / "three.bin").write_bytes(b"3")
    run_client("rclone", "sync", source, "generic:release")
    run_client("rclone", "check", "--download", source, "generic:release")
    listed = run_client("rclone", "lsf", "-R", "--files-only", "generic:release").splitlines()
    assert set(listed) == {*files, "three.bin"}


def test_a_private_repository_asks_for_credentials(
    node: NodeProcess,
    token: str,
    private: Callable[[str], str],
    run_client: RunClient,
    http_status: HttpStatus,
    tmp_path: Path,
) -> None:
    (tmp_path / "f").write_bytes(b"secret")
    url = f"{node.url}/general/{private('generic')}/f"
    assert http_status(url, "-T", tmp_path / "f") == 401
    assert http_status(url, "-T", tmp_path / "f", "-u", "me:wrong") == 401
    assert http_status(url, "-T", tmp_path / "f", "-u", f"me:{token}") == 201
    assert http_status(url) == 401
    assert run_client("curl", *CURL, "-u", f"me:{token}", url) == "secret"


def test_the_command_line_publishes_and_gets(node: NodeProcess, tmp_path: Path) -> None:
    data = samples.payload(700_000, seed=3)
    (tmp_path / "f").write_bytes(data)
    node.command("publish", "--data", str(node.data), str(tmp_path / "f"), "generic/cli/f.bin")
    node.command("get", "--data", str(node.data), "generic/cli/f.bin", str(tmp_path / "g"))
    assert (tmp_path / "g").read_bytes() == data
