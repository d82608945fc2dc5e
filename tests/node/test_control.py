"""The control connection's secret, and one process per data directory."""

from __future__ import annotations

import json
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from node.control import FILE, Control, DirectoryBusyError, locked


def test_only_loopback_callers_with_the_secret_pass() -> None:
    control = Control()
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert control.accepts(control.secret, address)
        for wrong in ("", "x", control.secret + "x", control.secret[:-1], "é"):
            assert not control.accepts(wrong, address)
    for address in ("", "10.0.0.1", "127.0.0.1.example"):
        assert not control.accepts(control.secret, address)
    assert control.secret not in repr(control)
    assert Control().secret != control.secret


def test_it_is_written_for_its_owner_only_and_taken_back(tmp_path: Path) -> None:
    control = Control()
    before = os.umask(0)
    try:
        control.publish(tmp_path, "http://127.0.0.1:1")
    finally:
        os.umask(before)
    file = tmp_path / FILE
    assert file.stat().st_mode & 0o777 == 0o600
    found = json.loads(file.read_text())
    assert found == {"url": "http://127.0.0.1:1", "secret": control.secret, "pid": os.getpid()}
    Control().withdraw(tmp_path)
    assert file.exists(), "another run's file is not ours to take"
    control.publish(tmp_path, "http://127.0.0.1:2")
    control.withdraw(tmp_path)
    control.withdraw(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == []
    file.write_text("[]")
    control.withdraw(tmp_path)


def hold(folder: Path, ready: Connection) -> None:
    with locked(folder):
        ready.send(True)
        ready.poll(30)


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    folder = tmp_path / "data"
    process = context.Process(target=hold, args=(folder, theirs))
    process.start()
    try:
        assert ours.poll(30)
        with pytest.raises(DirectoryBusyError, match="another process"), locked(folder):
            pass
        process.kill()
        process.join(30)
        with locked(folder):
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        process.kill()
        process.join(30)
        ours.close()
        theirs.close()
