"""What is published everywhere: small valid packages.  Pure, and the same bytes each time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import tarfile
import zipfile
from dataclasses import dataclass

PROJECT = "bench"
EPOCH = (2020, 1, 1, 0, 0, 0)
METADATA = "Metadata-Version: 2.1\nName: bench\nVersion: {version}\nSummary: A benchmark\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of no use."""

    version: str
    filename: str
    data: bytes


def versions(count: int) -> list[str]:
    """Plausible version numbers, ascending."""
    return [f"{n // 100}.{n // 10 % 10}.{n % 10}" for n in range(100, 100 + count)]


def noise(size: int, seed: int) -> bytes:
    """Bytes that neither compress nor repeat."""
    return random.Random(seed).randbytes(size)


def wheel(version: str, size: int = 0) -> Wheel:
    """Make a wheel, with ``size`` bytes of noise in it."""
    info = f"{PROJECT}-{version}.dist-info"
    entries = {f"{PROJECT}.py": b"", f"{info}/WHEEL": WHEEL.encode()}
    entries[f"{info}/METADATA"] = METADATA.format(version=version).encode()
    if size:
        entries[f"{PROJECT}.bin"] = noise(size, size)
    listed = "".join(f"{name},{_record(data)},{len(data)}\n" for name, data in entries.items())
    entries[f"{info}/RECORD"] = f"{listed}{info}/RECORD,,\n".encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    return Wheel(version, f"{PROJECT}-{version}-py3-none-any.whl", file.getvalue())


def _record(data: bytes) -> str:
    raw = hashlib.sha256(data).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def tarball(name: str, version: str, size: int = 0) -> bytes:
    """An npm tarball, with ``size`` bytes of noise in it."""
    file = io.BytesIO()
    manifest = json.dumps({"name": name, "version": version}).encode()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path, data in (("package.json", manifest), ("noise.bin", noise(size, size))):
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(file.getvalue(), 1, mtime=0)


def npm_document(base: str, name: str, version: str, data: bytes) -> bytes:
    """What ``npm publish`` sends."""
    filename = f"{name}-{version}.tgz"
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    dist = {
        "integrity": integrity,
        "shasum": hashlib.sha1(data).hexdigest(),
        "tarball": f"{base}/{name}/-/{filename}",
    }
    manifest = {
        "name": name,
        "version": version,
        "description": "A benchmark",
        "main": "index.js",
        "license": "MIT",
        "dependencies": {"left": "^1.0.0", "right": "~2.3.4"},
        "_id": f"{name}@{version}",
        "dist": dist,
    }
    attachment = {
        "content_type": "application/octet-stream",
        "data": base64.b64encode(data).decode(),
        "length": len(data),
    }
    document = {
        "_id": name,
        "name": name,
        "dist-tags": {"latest": version},
        "versions": {version: manifest},
        "_attachments": {filename: attachment},
    }
    return json.dumps(document).encode()


def digest_of(data: bytes) -> str:
    """The OCI name of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
LAYER = noise(1024, 7)


def image_manifest(layers: int = 8) -> bytes:
    """An image manifest that names one layer several times, as long as a usual one."""
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": digest_of(LAYER),
        "size": len(LAYER),
    }
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(CONFIG),
        "size": len(CONFIG),
    }
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config}
    return json.dumps({**document, "layers": [layer] * layers}, indent=2).encode()
