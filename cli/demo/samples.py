"""What the demo publishes: a wheel, an npm package and an OCI image, made from random bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE = 1 << 20
KIND = "application/vnd.oci.image"


def sha256(file: Path) -> str:
    """The digest of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def wheel(folder: Path, size: int) -> Path:
    """A wheel ``atoll-demo`` with one data file."""
    info, files = "atoll_demo-1.0.dist-info", {"atoll_demo/data.bin": os.urandom(size)}
    files["atoll_demo/__init__.py"] = b"VERSION = '1.0'\n"
    files[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: atoll-demo\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = ("".join(lines) + f"{info}/RECORD,,\n").encode()
    target = folder / "atoll_demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return target


def npm_tarball(folder: Path, size: int) -> Path:
    """A tarball of the npm package ``atoll-demo``."""
    target = folder / "atoll-demo-1.0.0.tgz"
    manifest = json.dumps({"name": "atoll-demo", "version": "1.0.0"}).encode()
    with tarfile.open(target, "w:gz", compresslevel=1) as archive:
        for name, data in (("package.json", manifest), ("data.bin", os.urandom(size))):
            info = tarfile.TarInfo(f"package/{name}")
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return target


def npm_document(tarball: Path) -> bytes:
    """The packument that ``npm publish`` would send."""
    data = tarball.read_bytes()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    shasum = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    version = {
        "name": "atoll-demo",
        "version": "1.0.0",
        "dist": {"integrity": integrity, "shasum": shasum},
    }
    attachment = {
        "content_type": "application/octet-stream",
        "data": base64.b64encode(data).decode(),
        "length": len(data),
    }
    return json.dumps(
        {
            "_id": "atoll-demo",
            "name": "atoll-demo",
            "dist-tags": {"latest": "1.0.0"},
            "versions": {"1.0.0": version},
            "_attachments": {tarball.name: attachment},
        }
    ).encode()


@dataclass(frozen=True, slots=True)
class Image:
    """An OCI image layout on disk."""

    layout: Path
    manifest: Path
    blobs: tuple[Path, ...]  # config and layers


def image(folder: Path, size: int) -> Image:
    """An image with one layer of at least ``size`` bytes, written piece by piece."""
    root = folder / "image"
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    raw = folder / "layer.tar"
    with tarfile.open(raw, "w") as archive:
        for number in range(-(-size // (16 * PIECE))):
            info = tarfile.TarInfo(f"data/{number:04}.bin")
            info.size = 16 * PIECE
            archive.addfile(info, io.BytesIO(os.urandom(info.size)))
    diff_id = sha256(raw)
    packed = folder / "layer.tar.gz"
    with raw.open("rb") as source, gzip.GzipFile(packed, "wb", 1, mtime=0) as target:
        while piece := source.read(PIECE):
            target.write(piece)
    raw.unlink()
    layer = _place(blobs, packed, f"{KIND}.layer.v1.tar+gzip")
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config = _write(blobs, {"architecture": "amd64", "os": "linux", "rootfs": rootfs}, "config")
    manifest = _write(
        blobs,
        {
            "schemaVersion": 2,
            "mediaType": f"{KIND}.manifest.v1+json",
            "config": config,
            "layers": [layer],
        },
        "manifest",
    )
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    paths = [blobs / each["digest"].removeprefix("sha256:") for each in (manifest, config, layer)]
    return Image(root, paths[0], tuple(paths[1:]))


def _place(blobs: Path, file: Path, media_type: str) -> dict[str, Any]:
    digest, size = sha256(file), file.stat().st_size
    file.replace(blobs / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _write(blobs: Path, document: dict[str, Any], kind: str) -> dict[str, Any]:
    file = blobs.parent / kind
    file.write_text(json.dumps(document))
    return _place(blobs, file, f"{KIND}.{kind}.v1+json")
