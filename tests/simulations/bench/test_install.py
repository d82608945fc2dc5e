"""What counts as installed, and what an unpacked command needs."""

from __future__ import annotations

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
