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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = "bench"
PIECE = 1 << 20
EPOCH = (2020, 1, 1, 0, 0, 0)
METADATA = "Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nSummary: A benchmark\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of no use."""

    version: str
    filename: str
    data: bytes
    project: str = PROJECT


def versions(count: int) -> list[str]:
    """Plausible version numbers, ascending."""
    return [f"{n // 100}.{n // 10 % 10}.{n % 10}" for n in range(100, 100 + count)]


def noise(size: int, seed: int | str) -> bytes:
    """Bytes that neither compress nor repeat."""
    return random.Random(seed).randbytes(size)


def stream(size: int, seed: str) -> Iterator[bytes]:
    """The same, a piece at a time and as fast as a disk cache: the key stream of AES."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = hashlib.sha256(seed.encode()).digest()
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(min(size, PIECE))
    for start in range(0, size, PIECE):
        yield cipher.update(zeros[: min(PIECE, size - start)])


def wheel(version: str, size: int = 0, project: str = PROJECT) -> Wheel:
    """Make a wheel, with ``size`` bytes of noise in it."""
    info = f"{project}-{version}.dist-info"
    entries = {f"{project}.py": b"", f"{info}/WHEEL": WHEEL.encode()}
    entries[f"{info}/METADATA"] = METADATA.format(project=project, version=version).encode()
    if size:
        entries[f"{project}.bin"] = noise(size, f"{project} {version} {size}")
    listed = "".join(f"{name},{_record(data)},{len(data)}\n" for name, data in entries.items())
    entries[f"{info}/RECORD"] = f"{listed}{info}/RECORD,,\n".encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data)
    filename = f"{project}-{version}-py3-none-any.whl"
    return Wheel(version, filename, file.getvalue(), project)


def _record(data: bytes) -> str:
    raw = hashlib.sha256(data).digest()
    return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def tarball(name: str, version: str, size: int = 0) -> bytes:
    """An npm tarball, with ``size`` bytes of noise in it."""
    file = io.BytesIO()
    manifest = json.dumps({"name": name, "version": version}).encode()
    random_bytes = noise(size, f"{name} {version} {size}")
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path, data in (("package.json", manifest), ("noise.bin", random_bytes)):
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(file.getvalue(), 1, mtime=0)


def write_tarball(target: Path, name: str, version: str, content: Path) -> None:
    """Write an npm tarball around a file, not compressed, so that a large one is quickly made."""
    manifest = json.dumps({"name": name, "version": version}).encode()
    with (
        gzip.GzipFile(target, "wb", compresslevel=0, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))
        archive.add(content, "package/noise.bin", recursive=False)


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


def deb(name: str, version: str, size: int = 0) -> bytes:
    """A Debian package for every machine, with ``size`` bytes of noise in it."""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nSection: misc\n"
        f"Priority: optional\nMaintainer: Bench <bench@example.org>\nDepends: libc6 (>= 2.14)\n"
        f"Description: A benchmark\n It has no use but this one.\n"
    )
    folders = dict.fromkeys(("./", "./usr/", "./usr/share/", f"./usr/share/{name}/"), b"")
    data = {**folders, f"./usr/share/{name}/noise.bin": noise(size, f"{name} {version} {size}")}
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": gzip.compress(_tar({"./control": control.encode()}), 1, mtime=0),
        "data.tar": _tar(data),
    }
    parts = [b"!<arch>\n"]
    for member, content in members.items():
        head = f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        parts += [head.encode(), content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def _tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of files; a name that ends in a slash is a folder."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            if path.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry, io.BytesIO(data))
    return found.getvalue()


def digest_of(data: bytes) -> str:
    """The OCI name of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
LAYER = noise(1024, 7)


def image_manifest(layers: int = 8) -> bytes:
    """An image manifest that names one layer several times, as long as a usual one."""
    return manifest_of([Described(digest_of(LAYER), len(LAYER))] * layers)


@dataclass(frozen=True, slots=True)
class Described:
    """A layer: its digest and size."""

    digest: str
    size: int


def manifest_of(layers: Sequence[Described]) -> bytes:
    """An image manifest of these layers and a configuration that says nothing."""
    described = [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": each.digest,
            "size": each.size,
        }
        for each in layers
    ]
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(CONFIG),
        "size": len(CONFIG),
    }
    document = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config}
    return json.dumps({**document, "layers": described}, indent=2).encode()
