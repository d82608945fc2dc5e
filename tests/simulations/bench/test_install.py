"""What counts as installed, and what an unpacked command needs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simulations.bench import install


def test_compiled_python_and_links_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_bytes(b"12345")
    (tmp_path / "a" / "x.pyc").write_bytes(b"123")
    (tmp_path / "link").symlink_to("a/x.py")
    assert install.size_of(tmp_path) == 5


def test_an_unpacked_command_finds_its_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = install.folder() / "wrk"
    for place in ("usr/bin", "usr/lib/x86_64-linux-gnu"):
        (root / place).mkdir(parents=True)
    (root / "usr/lib/x86_64-linux-gnu/libluajit.so.2").write_bytes(b"")
    found = install.libraries(root / "usr/bin/wrk")
    assert found == {"LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu")}
    assert install.libraries(Path("/usr/bin/wrk")) == {}


def test_a_command_that_is_here_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "wrk"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install.debian("wrk") == command


def test_who_comes_while_a_peer_is_being_made_waits_for_the_whole(tmp_path: Path) -> None:
    begun, go_on, made = threading.Event(), threading.Event(), []

    def build() -> None:
        made.append((tmp_path / "peer" / "half").exists())
        (tmp_path / "peer" / "half").touch()
        begun.set()
        go_on.wait(10)
        (tmp_path / "peer" / "whole").touch()

    def ask() -> bool:
        install.make(tmp_path / "peer", "1.0", build)
        return (tmp_path / "peer" / "whole").exists()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask)
        assert begun.wait(10)
        second = pool.submit(ask)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        go_on.set()
        assert first.result(10)
        assert second.result(10)
    assert made == [False]


def test_a_peer_that_was_left_half_made_or_is_of_another_version_is_made_anew(
    tmp_path: Path,
) -> None:
    def fail() -> None:
        (tmp_path / "peer" / "rest").touch()
        raise install.PeerMissingError("no network")

    def build() -> None:
        assert not (tmp_path / "peer" / "rest").exists()
        (tmp_path / "peer" / "rest").touch()

    with pytest.raises(install.PeerMissingError):
        install.make(tmp_path / "peer", "1.0", fail)
    install.make(tmp_path / "peer", "1.0", build)
    install.make(tmp_path / "peer", "1.0", fail)
    install.make(tmp_path / "peer", "1.1", build)
