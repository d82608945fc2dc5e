"""Every client over TLS, with a node's own certificate as the only authority it trusts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance import samples
from tests.conformance.conftest import NewNode, RunClient
from tests.conformance.machine import Machine
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CONTENT = samples.payload(900_000)


@pytest.fixture(scope="module")
def node(new_node: NewNode) -> NodeProcess:
    """Start a node that makes its own certificate."""
    return new_node("tls", environment={"ATOLL_HTTP_TLS": "auto"})


@pytest.fixture(scope="module")
def certificate(node: NodeProcess) -> Path:
    assert node.url.startswith("https://")
    return node.data / "tls" / "certificate.pem"


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_publishes_and_fetches(
    version: str,
    node: NodeProcess,
    token: str,
    certificate: Path,
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    url = f"{node.url}/general/generic/by{version}.bin"
    quiet = ["-sS", "--fail-with-body", version, "--cacert", certificate]
    run_client("curl", *quiet, "-u", f"me:{token}", "-T", tmp_path / "f", url)
    spoken = run_client("curl", *quiet, "-w", "%{http_version}", "-o", tmp_path / "g", url)
    assert spoken == version.removeprefix("--http")
    assert (tmp_path / "g").read_bytes() == CONTENT


def test_nobody_is_trusted_unasked(node: NodeProcess, run_client: RunClient) -> None:
    run_client("curl", "-sS", f"{node.url}/health", status=60)


def test_twine_pip_and_uv(
    node: NodeProcess,
    token: str,
    certificate: Path,
    client_env: dict[str, str],
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    home = Path(client_env["HOME"])
    printed(node, "twine", token).write(home, tmp_path)
    printed(node, "pip", token).write(home, tmp_path)
    wheel = samples.wheel(tmp_path, "demo-tls", "1.0", CONTENT)
    options = ["--non-interactive", "--cert", certificate, "--repository", "atoll"]
    run_client("twine", "upload", *options, wheel)
    env = {"PIP_CONFIG_FILE": str(home / ".config/pip/pip.conf")}
    options = ["--no-cache-dir", "--cert", certificate, "--target", tmp_path / "pip"]
    run_client("pip", "install", *options, "demo-tls", env=env)
    assert (tmp_path / "pip/demo_tls/data.bin").read_bytes() == CONTENT
    options = ["--index-url", f"{node.url}/pypi/pypi/simple/", "--python", sys.executable]
    trusting = {"SSL_CERT_FILE": str(certificate)}
    run_client(
        "uv", "pip", "install", *options, "--target", tmp_path / "uv", "demo-tls", env=trusting
    )
    assert (tmp_path / "uv/demo_tls/data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("tool", ["npm", "pnpm"])
def test_npm_and_pnpm(
    tool: str,
    node: NodeProcess,
    token: str,
    certificate: Path,
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    env = {"NODE_EXTRA_CA_CERTS": str(certificate)}
    source = samples.npm_package(tmp_path, f"demo-{tool}", "1.0.0", CONTENT)
    printed(node, "npm", token).write(source, source)
    run_client("npm", "publish", cwd=source, env=env)
    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "package.json").write_text('{"name": "consumer", "version": "1.0.0"}')
    printed(node, tool, token).write(consumer, consumer)
    run_client(tool, "install" if tool == "npm" else "add", f"demo-{tool}", cwd=consumer, env=env)
    assert (consumer / f"node_modules/demo-{tool}/data.bin").read_bytes() == CONTENT


def test_skopeo_and_crane(
    node: NodeProcess, token: str, certificate: Path, run_client: RunClient, tmp_path: Path
) -> None:
    layout = samples.oci_layout(tmp_path, "1", CONTENT)
    trusting = {"SSL_CERT_FILE": str(certificate)}
    image = f"{node.address}/docker/demo:1"
    copy = ["copy", "--insecure-policy", "--dest-creds", f"me:{token}", f"oci:{layout}:1"]
    run_client("skopeo", *copy, f"docker://{image}", env=trusting)
    run_client("crane", "validate", "--remote", image, env=trusting)
    run_client("skopeo", *copy, f"docker://{image}", status=1)


def test_apt(
    node: NodeProcess,
    token: str,
    certificate: Path,
    run_client: RunClient,
    machine: Machine,
    tmp_path: Path,
) -> None:
    package = samples.deb(tmp_path, "demo-tls", "1.0", CONTENT)
    upload = ["-sS", "--fail-with-body", "--cacert", certificate, "-u", f"me:{token}"]
    run_client("curl", *upload, "-T", package, f"{node.url}/debian/debian/pool/main/")
    with (machine.root / "apt.conf").open("a") as file:
        file.write(f'Acquire::https::CAInfo "{certificate}";\n')
    (Path(machine.root) / ".curlrc").write_text(f'cacert = "{certificate}"\n')
    machine.paste(printed(node, "apt", token), env={"CURL_HOME": str(machine.root)})
    machine.apt("update")
    assert machine.install("demo-tls") == CONTENT
