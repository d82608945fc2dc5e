"""skopeo, podman, buildah, crane and docker: pulled layers are the pushed bytes."""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import json
import os
import tempfile
import xml.etree.ElementTree as ET  # of the suite's own report
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import ClientPath, HttpStatus, RunClient
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CONTENT = samples.payload(1_500_000)
HTTP = "--tls-verify=false"


def same_blobs(left: Path, right: Path) -> bool:
    names = sorted(each.name for each in (left / "blobs/sha256").iterdir())
    _, wrong, missing = filecmp.cmpfiles(
        left / "blobs/sha256", right / "blobs/sha256", names, shallow=False
    )
    return not wrong and not missing and bool(names)


def layer_digest(layout: Path) -> str:
    """The digest of the unpacked layer, which engines check and remember."""
    packed = max((layout / "blobs/sha256").iterdir(), key=lambda each: each.stat().st_size)
    return f"sha256:{hashlib.sha256(gzip.decompress(packed.read_bytes())).hexdigest()}"


def push(run_client: RunClient, node: NodeProcess, token: str, layout: Path, image: str) -> str:
    """Push with skopeo; return the image's name as the others want it."""
    name = f"{node.address}/docker/{image}"
    arguments = ["--insecure-policy", "copy", "--dest-tls-verify=false"]
    credentials = ["--dest-creds", f"me:{token}"]
    run_client("skopeo", *arguments, *credentials, f"oci:{layout}:1", f"docker://{name}")
    return name


@pytest.fixture
def storage() -> Iterator[list[str]]:
    """Storage of podman and buildah: in a folder with a short name, as podman demands."""
    if os.geteuid() != 0:
        pytest.skip("podman's storage needs root, or user namespaces set up for this user")
    with tempfile.TemporaryDirectory(prefix="pod") as folder:
        yield ["--root", f"{folder}/a", "--runroot", f"{folder}/b", "--storage-driver", "vfs"]


def test_printed_settings_let_skopeo_copy_in_and_out(
    node: NodeProcess,
    token: str,
    client: ClientPath,
    client_env: dict[str, str],
    run_client: RunClient,
    run_shell: RunClient,
    tmp_path: Path,
) -> None:
    client("skopeo")
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    text = printed(node, "skopeo", token).shell.replace("IMAGE:TAG", "team/demo:1")
    script = text.replace("oci:DIR:TAG", f"oci:{layout}:1", 1).replace("oci:DIR:TAG", "oci:out:1")
    policy = Path(client_env["HOME"]) / ".config/containers/policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    run_shell(script, cwd=tmp_path)
    assert same_blobs(layout, tmp_path / "out")
    tags = run_client("skopeo", "list-tags", HTTP, f"docker://{node.address}/docker/team/demo")
    assert json.loads(tags)["Tags"] == ["1"]


def test_skopeo_deletes(node: NodeProcess, run_client: RunClient, tmp_path: Path) -> None:
    token = node.token("admin", name="deleter")
    image = push(run_client, node, token, samples.oci_layout(tmp_path, "1", b"gone"), "gone:1")
    run_client("skopeo", "inspect", HTTP, f"docker://{image}")
    run_client("skopeo", "delete", HTTP, "--creds", f"me:{token}", f"docker://{image}")
    run_client("skopeo", "inspect", HTTP, f"docker://{image}", status=1)


def test_podman_pulls_and_buildah_pushes(
    node: NodeProcess, token: str, run_client: RunClient, storage: list[str], tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    image = push(run_client, node, token, layout, "pod:1")
    run_client("podman", *storage, "pull", HTTP, image)
    found = list(Path(storage[1]).glob("vfs/dir/*/data.bin"))
    assert [each.read_bytes() for each in found] == [CONTENT]
    again = f"{node.address}/docker/built:1"
    run_client("buildah", *storage, "tag", image, again)
    run_client("buildah", *storage, "push", HTTP, "--creds", f"me:{token}", again)
    config = json.loads(run_client("skopeo", "inspect", HTTP, "--config", f"docker://{again}"))
    assert config["rootfs"]["diff_ids"] == [layer_digest(layout)]


def test_printed_settings_let_crane_push_and_pull(
    node: NodeProcess,
    token: str,
    client: ClientPath,
    run_client: RunClient,
    run_shell: RunClient,
    tmp_path: Path,
) -> None:
    client("crane")
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    run_client(
        "skopeo",
        "copy",
        "--insecure-policy",
        f"oci:{layout}:1",
        f"docker-archive:{tmp_path}/IMAGE.tar",
    )
    run_shell(printed(node, "crane", token).shell.replace("IMAGE:TAG", "crane:1"), cwd=tmp_path)
    image = f"{node.address}/docker/crane:1"
    config = json.loads(run_client("crane", "config", image))
    assert config["rootfs"]["diff_ids"] == [layer_digest(layout)]
    run_client("crane", "validate", "--remote", image)
    run_client("crane", "validate", "--tarball", tmp_path / "IMAGE.tar")
    copied = f"{node.address}/docker/copied:2"
    run_client("crane", "copy", image, copied)
    assert run_client("crane", "digest", image) == run_client("crane", "digest", copied)
    assert {"docker/crane", "docker/copied"} <= set(
        run_client("crane", "catalog", node.address).split()
    )


def test_printed_settings_let_docker_push_and_pull(
    node: NodeProcess,
    token: str,
    dockerd: str,
    run_client: RunClient,
    run_shell: RunClient,
    tmp_path: Path,
) -> None:
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    archive = tmp_path / "a.tar"
    run_client(
        "skopeo",
        "copy",
        "--insecure-policy",
        f"oci:{layout}:1",
        f"docker-archive:{archive}:local:1",
    )
    env = {"DOCKER_HOST": dockerd}
    run_client("docker", "load", "-i", archive, env=env)
    text = printed(node, "docker", token).shell.replace("tag IMAGE ", "tag local:1 ")
    image = f"{node.address}/docker/team/docker:1"
    script = text.replace("IMAGE:TAG", "team/docker:1")
    script = script.replace("docker pull", f"docker rmi local:1 {image}\ndocker pull")
    run_shell(script, env=env)
    show = ["image", "inspect", "--format", "{{json .RootFS.Layers}}"]
    assert json.loads(run_client("docker", *show, image, env=env)) == [layer_digest(layout)]
    run_client("docker", "rmi", image, env=env)
    run_client("docker", "logout", node.address, env=env)
    run_client("docker", "push", image, env=env, status=1)
    run_client("docker", "pull", image, env=env)  # public: nobody need log in to read


def test_a_private_repository_asks_for_credentials(
    node: NodeProcess,
    token: str,
    private: Callable[[str], str],
    run_client: RunClient,
    http_status: HttpStatus,
    tmp_path: Path,
) -> None:
    key = private("docker")
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    image = f"docker://{node.address}/{key}/demo:1"
    copy = ["copy", "--insecure-policy"]
    into, out = [*copy, "--dest-tls-verify=false"], [*copy, "--src-tls-verify=false"]
    run_client("skopeo", *into, f"oci:{layout}:1", image, status=1)
    run_client("skopeo", *into, "--dest-creds", f"me:{token}", f"oci:{layout}:1", image)
    assert http_status(f"{node.url}/v2/{key}/demo/manifests/1") == 401
    run_client("skopeo", *out, image, f"oci:{tmp_path}/out:1", status=1)
    run_client("skopeo", *out, "--src-creds", "me:wrong", image, f"oci:{tmp_path}/out:1", status=1)
    run_client("skopeo", *out, "--src-creds", f"me:{token}", image, f"oci:{tmp_path}/out:1")
    assert same_blobs(layout, tmp_path / "out")
    assert run_client("crane", "catalog", node.address).find(f"{key}/demo") < 0


def test_bytes_that_are_not_what_their_digest_says_are_refused(
    node: NodeProcess, token: str, run_client: RunClient, http_status: HttpStatus, tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", samples.payload(50_000, seed=9))  # new to this node
    blob = max((layout / "blobs/sha256").iterdir(), key=lambda each: each.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    name = f"{node.address}/docker/changed"
    arguments = ["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds"]
    run_client(
        "skopeo", *arguments, f"me:{token}", f"oci:{layout}:1", f"docker://{name}:1", status=1
    )
    url = f"{node.url}/v2/docker/changed"
    upload = ["-u", f"me:{token}", "-H", "content-type: application/octet-stream", "--data-binary"]
    wrong = f"{url}/blobs/uploads/?digest=sha256:{blob.name}"
    assert http_status(wrong, *upload, f"@{blob}") == 400
    assert http_status(f"{url}/blobs/sha256:{blob.name}") == 404
    assert http_status(f"{url}/tags/list") == 404


def test_nobody_pushes_without_a_token(
    node: NodeProcess, run_client: RunClient, tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", b"no")
    target = f"docker://{node.address}/docker/refused:1"
    arguments = ["copy", "--insecure-policy", "--dest-tls-verify=false"]
    run_client("skopeo", *arguments, f"oci:{layout}:1", target, status=1)


def test_the_distribution_specification_s_own_suite_passes(
    node: NodeProcess, run_client: RunClient, tmp_path: Path
) -> None:
    """Run the Open Container Initiative's conformance tests of distribution-spec 1.1."""
    results = tmp_path / "results"
    settings = {
        "OCI_REGISTRY": node.address,
        "OCI_TLS": "disabled",
        "OCI_REPO1": "docker/conformance/one",
        "OCI_REPO2": "docker/conformance/two",
        "OCI_USERNAME": "me",
        "OCI_PASSWORD": node.token("write", "delete", name="conformance"),
        "OCI_RESULTS_DIR": str(results),
        "OCI_VERSION": "1.1",
    }
    run_client("oci-conformance", env=settings)
    (suite,) = ET.parse(results / "junit.xml").getroot()
    assert int(suite.attrib["tests"]) - int(suite.attrib["skipped"]) > 800
    assert suite.attrib["failures"] == suite.attrib["errors"] == "0"
