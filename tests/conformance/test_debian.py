"""apt, dpkg and dput: packages reach a private root as published, or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.conformance import samples
from tests.conformance.conftest import HttpStatus, RunClient
from tests.conformance.machine import Machine
from tests.conformance.nodes import NodeProcess
from tests.conformance.settings import printed

CONTENT = samples.payload(120_000)
REFUSED = 100  # apt's exit status for every failure
UPLOAD = ("-sS", "--fail-with-body", "-T")


def url_of(node: NodeProcess, key: str = "debian") -> str:
    return f"{node.url}/debian/{key}"


def publish(run_client: RunClient, node: NodeProcess, token: str, file: Path) -> None:
    run_client("curl", *UPLOAD, file, "-u", f"me:{token}", f"{url_of(node)}/pool/main/")


def test_printed_settings_let_curl_publish_and_apt_install(
    node: NodeProcess,
    token: str,
    machine: Machine,
    run_shell: RunClient,
    tmp_path: Path,
) -> None:
    package = samples.deb(tmp_path, "by-curl", "1.0", CONTENT)
    lines = printed(node, "dput", token).shell.splitlines()
    (upload,) = [line for line in lines if line.startswith("curl")]
    run_shell(upload.replace("demo_1.0_amd64.deb", package.name), cwd=tmp_path)
    machine.paste(printed(node, "apt", token))
    assert "/by-hash/SHA" in machine.update_verbosely()
    assert machine.install("by-curl") == CONTENT


def test_an_upgrade_is_offered(
    node: NodeProcess, token: str, machine: Machine, run_client: RunClient, tmp_path: Path
) -> None:
    machine.paste(printed(node, "apt", token))
    for version, content in (("1.9", b"old"), ("1.10~rc1", b"between"), ("1.10", b"new")):
        publish(run_client, node, token, samples.deb(tmp_path, "growing", version, content))
        machine.apt("update")
        assert machine.install("growing") == content


def test_printed_settings_let_dput_upload(
    node: NodeProcess,
    token: str,
    machine: Machine,
    client_env: dict[str, str],
    run_client: RunClient,
    tmp_path: Path,
) -> None:
    package = samples.deb(tmp_path, "by-dput", "2.0", CONTENT)
    source = samples.debian_source(tmp_path, "by-dput", "2.0", CONTENT)
    tarball = tmp_path / "by-dput_2.0.tar.gz"
    upload = samples.changes(tmp_path, "by-dput", "2.0", source, tarball, package)
    printed(node, "dput", token).write(Path(client_env["HOME"]), tmp_path)
    run_client("dput", "-U", "debian", upload, cwd=tmp_path)
    machine.paste(printed(node, "apt", token))
    sources = machine.root / "etc/apt/sources.list.d/debian.sources"
    sources.write_text(sources.read_text().replace("Types: deb", "Types: deb deb-src"))
    machine.apt("update")
    assert machine.install("by-dput") == CONTENT
    got = tmp_path / "got"
    got.mkdir()
    machine.apt("source", "--download-only", "by-dput", cwd=got)
    assert (got / tarball.name).read_bytes() == tarball.read_bytes()
    assert (got / source.name).read_bytes() == source.read_bytes()


def test_other_bytes_of_a_version_are_refused(
    node: NodeProcess,
    token: str,
    run_client: RunClient,
    http_status: HttpStatus,
    machine: Machine,
    tmp_path: Path,
) -> None:
    package = samples.deb(tmp_path, "fixed", "1.0", CONTENT)
    publish(run_client, node, token, package)
    publish(run_client, node, token, package)
    samples.deb(tmp_path, "fixed", "1.0", b"other")
    assert http_status(f"{url_of(node)}/pool/main/", "-u", f"me:{token}", "-T", package) == 409
    machine.paste(printed(node, "apt", token))
    machine.apt("update")
    assert machine.install("fixed") == CONTENT


def mirror(run_client: RunClient, url: str, folder: Path) -> Path:
    """Copy what apt needs of a repository, so that a test can tamper with it."""

    def copy(path: str) -> Path:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        options = ["-sS", "--fail-with-body", "-o", folder / path]
        run_client("curl", *options, f"{url}/{path}")
        return folder / path

    release = copy("dists/stable/InRelease").read_text()
    for path in set(re.findall(r"\bmain/binary-\w+/Packages$", release, re.MULTILINE)):
        packages = copy(f"dists/stable/{path}").read_text()
        for file in re.findall(r"^Filename: (.+)$", packages, re.MULTILINE):
            copy(file)
    return folder


def test_tampered_documents_and_packages_are_refused(
    node: NodeProcess, token: str, run_client: RunClient, machine: Machine, tmp_path: Path
) -> None:
    publish(run_client, node, token, samples.deb(tmp_path, "tampered", "1.0", CONTENT))
    copy = mirror(run_client, url_of(node), tmp_path / "mirror")
    machine.paste(printed(node, "apt", token))
    sources = machine.root / "etc/apt/sources.list.d/debian.sources"
    sources.write_text(sources.read_text().replace(f"URIs: {url_of(node)}", f"URIs: copy:{copy}"))
    machine.apt("update")
    (package,) = copy.glob("pool/**/tampered_1.0_all.deb")
    honest = package.read_bytes()
    package.write_bytes(honest[:-9] + bytes(9))
    machine.apt("install", "--download-only", "tampered", status=REFUSED)
    package.write_bytes(honest)
    machine.apt("install", "--download-only", "tampered")
    release = copy / "dists/stable/InRelease"
    release.write_text(release.read_text().replace("Origin: ", "Origin: not "))
    machine.apt("update", "-o", "APT::Update::Error-Mode=any", status=REFUSED)


def test_a_private_repository_asks_for_credentials(
    node: NodeProcess,
    token: str,
    private: Callable[[str], str],
    run_client: RunClient,
    http_status: HttpStatus,
    machine: Machine,
    tmp_path: Path,
) -> None:
    url = url_of(node, private("debian"))
    package = samples.deb(tmp_path, "secret", "1.0", CONTENT)
    assert http_status(f"{url}/pool/main/", "-T", package) == 401
    run_client("curl", *UPLOAD, package, "-u", f"me:{token}", f"{url}/pool/main/")
    assert http_status(f"{url}/dists/stable/InRelease") == 401
    machine.paste(printed(node, "apt", token, repository="private-debian"))
    machine.apt("update")
    assert machine.install("secret") == CONTENT
    (machine.root / "etc/apt/auth.conf.d/private-debian.conf").unlink()
    machine.apt("update", "-o", "APT::Update::Error-Mode=any", status=REFUSED)
