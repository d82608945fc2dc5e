"""Servers as processes: what is started, what is published about it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simulations.bench import servers
from simulations.bench.install import PeerMissingError
from simulations.bench.publishing import basic, oci_image, simple_page
from simulations.bench.servers import Server


def server(tmp_path: Path, *command: str) -> Server:
    found = f"http://127.0.0.1:{servers.free_port()}"
    return Server("peer", "1", command, {}, found, "/", tmp_path, "config", 1)


def test_a_server_that_ends_at_once_is_missing(tmp_path: Path) -> None:
    broken = server(tmp_path, sys.executable, "-c", "raise SystemExit('no such option')")
    with pytest.raises(PeerMissingError, match="no such option"):
        broken.start()
    with pytest.raises(RuntimeError):
        _ = broken.pid
    broken.stop()  # nothing to stop


def test_our_node_counts_its_own_source_and_libraries(tmp_path: Path) -> None:
    ours = servers.atoll(tmp_path)
    assert ours.size > servers.requirements_size() / 2 > 1 << 20
    assert "--data" in ours.command
    assert servers.PASSWORD not in ours.config


def test_payloads_go_where_clients_would_put_them(tmp_path: Path) -> None:
    ours, peer = servers.atoll(tmp_path), server(tmp_path, "true")
    ours.url = "http://node"
    assert simple_page(ours) == "http://node/pypi/pypi/simple/bench/"
    assert oci_image(ours) == "http://node/v2/docker/bench"
    assert oci_image(peer) == f"{peer.url}/v2/bench"
    assert basic("a")["Authorization"].startswith("Basic ")
