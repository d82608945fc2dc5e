"""Files by path over the management API, whole and in chunks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.node.world import World, world

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()


async def send(node: World, method: str, path: str, body: bytes, **headers: str) -> tuple[int, Any]:
    control = {"authorization": f"Control {node.core.control.secret}", **headers}
    answer = await node.ask(method, f"/api/v1{path}", body, control)
    return answer.status, answer.json if answer.body else None


async def opened(node: World, repository: str = "generic") -> str:
    made = await node.api(
        "POST", "/uploads", {"repository_key": repository, "artifact_path": "a/b.bin"}
    )
    assert made.status == 201, made.body
    return str(made.json["session_id"])


async def test_a_file_in_one_piece(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        path = "/repositories/generic/artifacts/x/y.bin"
        status, found = await send(node, "PUT", path, DATA, **{"x-checksum-sha256": SHA256})
        assert status == 201
        assert found["checksum_sha256"] == SHA256
        assert (await node.ask("GET", "/general/generic/x/y.bin")).body == DATA
        status, found = await send(node, "PUT", path + "z", DATA, **{"x-checksum-sha256": "0" * 64})
        assert (status, found["code"]) == (400, "DIGEST_MISMATCH")
        assert (await node.ask("GET", "/general/generic/x/y.binz")).status == 404


async def test_chunks_resume_and_repeat(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        session = await opened(node)
        for first, last in ((0, 4095), (0, 4095), (2048, 8191), (8192, len(DATA) - 1)):
            span = f"bytes {first}-{last}/{len(DATA)}"
            status, found = await send(
                node,
                "PATCH",
                f"/uploads/{session}",
                DATA[first : last + 1],
                **{"content-range": span},
            )
            assert status == 200, found
        assert found["bytes_received"] == len(DATA)
        body = json.dumps({"checksum_sha256": SHA256}).encode()
        status, found = await send(node, "PUT", f"/uploads/{session}/complete", body)
        assert (status, found["checksum_sha256"]) == (201, SHA256)
        assert (await node.ask("GET", "/general/generic/a/b.bin")).body == DATA
        assert (await node.api("GET", f"/uploads/{session}")).status == 404


async def test_gaps_and_wrong_digests_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        session = await opened(node)
        gap = {"content-range": "bytes 10-19/100"}
        assert (await send(node, "PATCH", f"/uploads/{session}", b"x" * 10, **gap))[0] == 416
        assert (await send(node, "PATCH", f"/uploads/{session}", b"x"))[0] == 416
        long = {"content-range": "bytes 0-3/100"}
        assert (await send(node, "PATCH", f"/uploads/{session}", b"x" * 10, **long))[0] == 416
        body = json.dumps({"checksum_sha256": "0" * 64}).encode()
        assert (await send(node, "PUT", f"/uploads/{session}/complete", body))[0] == 400
        assert (await node.api("GET", f"/uploads/{session}")).status == 200
        assert (await node.api("DELETE", f"/uploads/{session}")).status == 204


async def test_formats_without_paths_say_so(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        body = {"repository_key": "npm", "artifact_path": "x.tgz"}
        answer = await node.api("POST", "/uploads", body)
        assert answer.status == 415
        assert "npm" in answer.json["message"]
        assert (await node.ask("POST", "/api/v1/uploads", json.dumps(body).encode())).status == 401
