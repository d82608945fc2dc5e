"""Real nodes: two owners that must both sign, a new key, an eviction that a cut-off node hears late."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.nodes import NodeFailure, NodeProcess
from tests.mesh.test_processes import start

pytestmark = pytest.mark.slow

SOON = 60.0  # seconds that anything may take on a busy machine


def mesh(node: NodeProcess, *words: str) -> Any:
    """Run ``atoll mesh WORDS --json`` beside a node."""
    return json.loads(node.command("mesh", *words, "--json", "--data", str(node.data)))


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def shown(node: NodeProcess) -> Any:
    return mesh(node, "roles")


def test_two_owners_admit_rotate_and_evict_across_a_cut(tmp_path: Path) -> None:
    nodes: list[NodeProcess] = []
    try:
        a = start(tmp_path, "a", "--name", "a")
        nodes.append(a)
        for name in ("b", "c"):
            text = a.command("mesh", "invite", "--data", str(a.data), "--expires", "1h")
            assert text.startswith("atoll-invite-")
            nodes.append(start(tmp_path, name, "--join", text, "--name", name))
        b, c = nodes[1:]
        own, other, victim = map(node_id, nodes)
        assert mesh(a, "owners", own[:12], other[:12], "--threshold", "2")["missing"] == 0
        eventually(lambda: shown(b)["threshold"] == 2)

        before = {m["node"]: m["key"] for m in shown(a)["members"]}
        key = mesh(c, "rotate")["key"]
        assert key != before[victim]
        eventually(lambda: {m["node"]: m["key"] for m in shown(b)["members"]}[victim] == key)

        b.kill()  # cut off
        proposed = mesh(a, "evict", victim[:12], "--reason", "stolen")
        assert (proposed["missing"], shown(a)["evicted"]) == (1, [])
        b.start()

        def waiting() -> bool:
            return bool(shown(b)["proposals"])

        eventually(waiting)
        a.kill()  # the second signature is given while the first owner is away
        assert mesh(b, "sign", proposed["id"][:12])["missing"] == 0
        assert [e["reason"] for e in shown(b)["evicted"]] == ["stolen"]
        a.start()
        eventually(lambda: [e["node"] for e in shown(a)["evicted"]] == [victim])
        assert victim not in {m["node"] for m in shown(a)["members"]}
        text = a.command("mesh", "invite", "--data", str(a.data))
        with pytest.raises(NodeFailure, match="changed its key"):  # its id is spent
            c.command("mesh", "join", "--data", str(c.data), text)
    finally:
        for node in nodes:
            node.kill()


def node_id(node: NodeProcess) -> str:
    with urllib.request.urlopen(f"{node.url}/api/v1/node", timeout=SOON) as answer:
        return str(json.load(answer)["node_id"])
