"""skopeo, podman and crane against a node: pulled layers are the pushed bytes."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import RunClient
from tests.conformance.nodes import NodeProcess

CONTENT = samples.payload(1_500_000)


@pytest.fixture(scope="module")
def token(node: NodeProcess) -> str:
    return node.token("write")


def same_blobs(left: Path, right: Path) -> bool:
    names = sorted(each.name for each in (left / "blobs/sha256").iterdir())
    _, wrong, missing = filecmp.cmpfiles(
        left / "blobs/sha256", right / "blobs/sha256", names, shallow=False
    )
    return not wrong and not missing and bool(names)


def push(run_client: RunClient, node: NodeProcess, token: str, layout: Path, image: str) -> None:
    target = f"docker://{node.address}/docker/{image}"
    arguments = ["--insecure-policy", "copy", "--dest-tls-verify=false"]
    run_client("skopeo", *arguments, "--dest-creds", f"me:{token}", f"oci:{layout}:1", target)


def test_skopeo_copies_in_and_out(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    push(run_client, node, token, layout, "team/demo:1")
    back = ["--insecure-policy", "copy", "--src-tls-verify=false"]
    run_client("skopeo", *back, f"docker://{node.address}/docker/team/demo:1", f"oci:{tmp_path}/out:1")
    assert same_blobs(layout, tmp_path / "out")
    tags = run_client(
        "skopeo", "list-tags", "--tls-verify=false", f"docker://{node.address}/docker/team/demo"
    )
    assert json.loads(tags)["Tags"] == ["1"]


def test_skopeo_deletes(
    node: NodeProcess, run_client: RunClient, tmp_path: Path
) -> None:
    token = node.token("admin", name="deleter")
    push(run_client, node, token, samples.oci_layout(tmp_path, "1", b"gone"), "gone:1")
    url = f"docker://{node.address}/docker/gone:1"
    run_client("skopeo", "delete", "--tls-verify=false", "--creds", f"me:{token}", url)
    run_client("skopeo", "inspect", "--tls-verify=false", url, status=2)


def test_podman_pulls(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    push(run_client, node, token, samples.oci_layout(tmp_path, "1", CONTENT), "pod:1")
    storage = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    image = f"{node.address}/docker/pod:1"
    run_client("podman", *storage, "pull", "--tls-verify=false", image)
    run_client("podman", *storage, "save", "--format", "oci-archive", "-o", tmp_path / "a", image)
    found = list((tmp_path / "root" / "vfs" / "dir").glob("*/data.bin"))
    assert [each.read_bytes() for each in found] == [CONTENT]


def test_crane_copies_and_lists(
    node: NodeProcess, token: str, run_client: RunClient, tmp_path: Path
) -> None:
    push(run_client, node, token, samples.oci_layout(tmp_path, "1", CONTENT), "crane:1")
    image = f"{node.address}/docker/crane"
    run_client("crane", "auth", "login", node.address, "-u", "me", "-p", token)
    run_client("crane", "copy", f"{image}:1", f"{node.address}/docker/copied:2")
    assert run_client("crane", "digest", f"{image}:1") == run_client(
        "crane", "digest", f"{node.address}/docker/copied:2"
    )
    assert "docker/crane" in run_client("crane", "catalog", node.address).split()
    run_client("crane", "validate", "--remote", f"{image}:1")


def test_nobody_pushes_without_a_token(
    node: NodeProcess, run_client: RunClient, tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", b"no")
    target = f"docker://{node.address}/docker/refused:1"
    arguments = ["--insecure-policy", "copy", "--dest-tls-verify=false"]
    run_client("skopeo", *arguments, f"oci:{layout}:1", target, status=1)
