"""What is published everywhere is valid, and the same each time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import zipfile

from simulations.bench import payloads


def test_versions_are_distinct_and_ascend() -> None:
    found = payloads.versions(250)
    assert len(set(found)) == 250
    assert found == sorted(found, key=lambda v: [int(part) for part in v.split(".")])


def test_a_wheel_has_its_record_and_its_noise() -> None:
    wheel = payloads.wheel("1.2.3", 1000)
    assert wheel.data == payloads.wheel("1.2.3", 1000).data
    assert wheel.filename == "bench-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        assert b"Version: 1.2.3" in archive.read("bench-1.2.3.dist-info/METADATA")
        record = archive.read("bench-1.2.3.dist-info/RECORD").decode()
        assert len(archive.read("bench.bin")) == 1000
        for name in archive.namelist():
            assert f"{name}," in record


def test_an_npm_document_names_the_bytes_it_carries() -> None:
    data = payloads.tarball("x", "1.0.0", 10)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        assert archive.getnames() == ["package/package.json", "package/noise.bin"]
    document = json.loads(payloads.npm_document("http://registry", "x", "1.0.0", data))
    attachment = document["_attachments"]["x-1.0.0.tgz"]
    assert base64.b64decode(attachment["data"]) == data
    dist = document["versions"]["1.0.0"]["dist"]
    assert dist["shasum"] == hashlib.sha1(data).hexdigest()
    assert dist["tarball"] == "http://registry/x/-/x-1.0.0.tgz"


def test_a_manifest_names_what_is_pushed_before_it() -> None:
    manifest = json.loads(payloads.image_manifest())
    assert manifest["config"]["digest"] == payloads.digest_of(payloads.CONFIG)
    assert {layer["digest"] for layer in manifest["layers"]} == {payloads.digest_of(payloads.LAYER)}
