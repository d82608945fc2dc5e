"""Bundles at real nodes: from A by a file to B, which A has never met since the bytes were there."""

from __future__ import annotations

import json
import random
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.nodes import NodeFailure, NodeProcess

pytestmark = pytest.mark.slow
BIG = random.Random(5).randbytes(3_000_000)


def import_(node: NodeProcess, file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        node.command("import", "--data", str(node.data), "--json", str(file))
    )
    return found


def export(node: NodeProcess, file: Path, *arguments: str) -> dict[str, Any]:
    command = ("export", "--data", str(node.data), "--to", str(file), "--json", *arguments)
    found: dict[str, Any] = json.loads(node.command(*command))
    return found


def publish(node: NodeProcess, folder: Path, name: str, data: bytes) -> None:
    file = folder / name
    file.write_bytes(data)
    node.command("publish", "--data", str(node.data), str(file), f"generic/demo/1/{name}")


def get(node: NodeProcess, name: str) -> bytes:
    with urllib.request.urlopen(f"{node.url}/general/generic/demo/1/{name}", timeout=20) as answer:
        return bytes(answer.read())


def test_from_a_by_file_to_b(tmp_path: Path) -> None:
    """B joins A once; then they never run at the same time.  A is not even started to export."""
    a, b = NodeProcess(tmp_path / "a"), NodeProcess(tmp_path / "b")
    try:
        a.start()
        invitation = a.command("mesh", "invite", "--data", str(a.data))
        b = NodeProcess(tmp_path / "b", arguments=("--join", invitation))
        b.start()
        b.stop()
        publish(a, tmp_path, "big.bin", BIG)
        publish(a, tmp_path, "small.txt", b"small")
        a.stop()

        stick = tmp_path / "stick.bundle"
        made = export(a, stick)
        assert (made["blobs"], made["size"]) == (2, stick.stat().st_size)
        half = tmp_path / "half.bundle"
        half.write_bytes(stick.read_bytes()[: stick.stat().st_size // 2])
        b.start()
        with pytest.raises(NodeFailure, match="ended with 1"):
            import_(b, half)
        report = import_(b, stick)
        assert report["complete"]
        assert report["blobs"] == 2
        assert report["size"] <= len(BIG) + 5, "no chunk was stored twice"
        assert get(b, "big.bin") == BIG
        assert get(b, "small.txt") == b"small"

        publish(a, tmp_path, "news.txt", b"news")
        news = tmp_path / "news.bundle"
        export(a, news, "--since", str(stick))
        assert news.stat().st_size < 10_000
        assert import_(b, news)["blobs"] == 1
        assert get(b, "news.txt") == b"news"

        standing = tmp_path / "b.json"
        standing.write_text(b.command("mesh", "standing", "--data", str(b.data), "--json"))
        publish(a, tmp_path, "more.txt", b"more")
        export(a, news, "--since", str(standing))
        assert import_(b, news)["blobs"] == 1
        assert get(b, "more.txt") == b"more"
        b.stop()
    finally:
        a.kill()
        b.kill()
