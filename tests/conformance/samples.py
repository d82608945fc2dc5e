"""Packages to publish, made by hand so that no test depends on a build tool."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def payload(size: int, seed: int = 1) -> bytes:
    """Bytes that no codec can shrink, the same for a seed every time."""
    return random.Random(seed).randbytes(size)


def wheel(folder: Path, name: str, version: str, content: bytes) -> Path:
    """A wheel with one module and one data file."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f'VERSION = "{version}"\n'.encode(),
        f"{module}/data.bin": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        "Requires-Python: >=3.8\nSummary: a sample\n\nText.\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = ("".join(record) + f"{info}/RECORD,,\n").encode()
    target = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), data)
    return target


def sdist(folder: Path, name: str, version: str) -> Path:
    """A source distribution with nothing but its metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    return _tar_gz(folder / f"{stem}.tar.gz", {f"{stem}/PKG-INFO": info, f"{stem}/setup.py": b""})


def npm_package(folder: Path, name: str, version: str, content: bytes) -> Path:
    """A folder that ``npm publish`` takes."""
    target = folder / name.rpartition("/")[2]
    target.mkdir(parents=True, exist_ok=True)
    (target / "package.json").write_text(
        json.dumps({"name": name, "version": version, "main": "index.js", "license": "MIT"})
    )
    (target / "index.js").write_text(f"module.exports = {json.dumps(version)};\n")
    (target / "data.bin").write_bytes(content)
    return target


def jar(folder: Path, name: str, content: bytes) -> Path:
    """A jar with one resource."""
    target = folder / f"{name}.jar"
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n\r\n")
        archive.writestr("data.bin", content)
    return target


def deb(folder: Path, name: str, version: str, content: bytes) -> Path:
    """A Debian package that installs one file."""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\n"
        f"Description: a sample\n long text\n"
    ).encode()
    target = folder / f"{name}_{version}_all.deb"
    folders = dict.fromkeys(["./", "./usr/", "./usr/share/", f"./usr/share/{name}/"], b"")
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", _tar_bytes({"./control": control})),
        ("data.tar.gz", _tar_bytes({**folders, f"./usr/share/{name}/data.bin": content})),
    ]
    with target.open("wb") as file:
        file.write(b"!<arch>\n")
        for member, data in members:
            head = f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n"
            file.write(head.encode() + data + b"\n" * (len(data) % 2))
    return target


def debian_source(folder: Path, name: str, version: str, content: bytes) -> Path:
    """A native source package: the path of its ``.dsc``, beside the tarball that it lists."""
    tarball = _tar_gz(folder / f"{name}_{version}.tar.gz", {f"{name}-{version}/data.bin": content})
    target = folder / f"{name}_{version}.dsc"
    target.write_text(
        f"Format: 3.0 (native)\nSource: {name}\nBinary: {name}\nArchitecture: all\n"
        f"Version: {version}\nMaintainer: T <t@example.org>\n{_listed([tarball])}"
    )
    return target


def changes(folder: Path, name: str, version: str, *files: Path) -> Path:
    """The ``.changes`` of an upload of these files to the suite stable."""
    target = folder / f"{name}_{version}_all.changes"
    target.write_text(
        f"Format: 1.8\nDate: Mon, 01 Jan 2024 00:00:00 +0000\nSource: {name}\nBinary: {name}\n"
        f"Architecture: source all\nVersion: {version}\nDistribution: stable\nUrgency: low\n"
        f"Maintainer: T <t@example.org>\nChanged-By: T <t@example.org>\n"
        f"Description:\n {name} - a sample\nChanges:\n {name} ({version}) stable; urgency=low\n"
        f"{_listed(files, 'misc optional ')}"
    )
    return target


def _listed(files: Iterable[Path], section: str = "") -> str:
    """The checksum fields of a control file."""
    text = ""
    for title, algorithm in (
        ("Checksums-Sha1", "sha1"),
        ("Checksums-Sha256", "sha256"),
        ("Files", "md5"),
    ):
        text += f"{title}:\n"
        for file in files:
            data = file.read_bytes()
            digest = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
            between = section if title == "Files" else ""
            text += f" {digest} {len(data)} {between}{file.name}\n"
    return text


def oci_layout(folder: Path, tag: str, content: bytes) -> Path:
    """An OCI image layout with one layer that holds ``data.bin``."""
    root = folder / "layout"
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = _tar_bytes({"data.bin": content}, compress=False)
    packed = gzip.compress(layer, 1, mtime=0)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {"sample": "yes"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    kind = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{kind}.config.v1+json"),
        "layers": [put(packed, f"{kind}.layer.v1.tar+gzip")],
    }
    descriptor = put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    descriptor["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return root


def _tar_bytes(files: dict[str, bytes], *, compress: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o644
            if path.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0) if compress else buffer.getvalue()


def _tar_gz(target: Path, files: dict[str, bytes]) -> Path:
    target.write_bytes(_tar_bytes(files))
    return target
