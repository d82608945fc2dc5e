"""What experiments make of what they see, without any link."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from simulations.bench.mesh.model import Options, Run
from simulations.bench.mesh.scenarios import crowd, faults, outages, partial, records, small, swarm
from simulations.bench.mesh.stage import digest_of, end, noise
from simulations.lab import bare, seed

MIB = 1 << 20


def run() -> Run:
    return Run("B18", "case", "atoll", 0, 1.0, [], {})


def test_only_whole_answers_count(tmp_path: Path) -> None:
    file = tmp_path / "crowd.out"
    file.write_text("200 0.5 2.0 1000\n200 0.7 1.0 999\n000 0 0.1 0\n206 0.1 4.0 1000\n")
    times, failed = crowd.answers(file, 1000)
    assert (times, failed) == ([(0.5, 2.0), (0.1, 4.0)], 2)
    found = run()
    crowd.seen(found, times, failed)
    assert (found.values["total_p99"], found.values["failures"]) == (4.0, 2.0)
    assert found.values["first_byte_p99"] == 0.5


def test_one_piece_in_a_hundred_is_spoilt(tmp_path: Path) -> None:
    size = faults.PIECE * 250
    file = tmp_path / "held"
    digest = noise(file, size)
    assert digest_of(file) == digest
    before = file.read_bytes()
    system: Any = SimpleNamespace(
        held=lambda _node: file, stage=SimpleNamespace(case=SimpleNamespace(size=size))
    )
    faults.spoil(system)
    after = file.read_bytes()
    changed = [at for at in range(size) if before[at] != after[at]]
    assert len(changed) == 3
    assert {at // faults.PIECE % faults.EVERY for at in changed} == {0}


def test_bounds_of_the_cases() -> None:
    (mid, _large) = swarm.equal(Options())
    assert mid.bound == pytest.approx(13.42, abs=0.01)
    thin, fast = swarm.unequal(Options())
    assert thin.bound == pytest.approx(16 * MIB / (5 * swarm.MBIT))
    assert fast.bound == pytest.approx(32 * MIB / (20 * swarm.MBIT))
    plans = {case.name: case for case in outages.cases(Options())}
    work = plans["outage of 2 s"].size / outages.RATE
    assert plans["outage of 30 s"].bound == pytest.approx(work + 30)
    assert plans["5 s on, 5 s off"].bound == pytest.approx(work + 10)
    (half,) = partial.cases(Options())
    assert half.bound == pytest.approx(half.size / 2 / partial.SLOW)
    well, *ill = faults.ill(Options())
    assert {case.bound for case in ill} == {well.bound}
    assert well.name == faults.B10.baseline


def test_a_killed_receiver_comes_back_at_the_same_moment_in_every_system() -> None:
    (case,) = faults.killed(Options())
    calls: list[str] = []
    system: Any = SimpleNamespace(
        kill=lambda node: calls.append(f"kill {node}"),
        restart=lambda node: calls.append(f"restart {node}"),
    )
    first, second = faults.kill_once(3, system, case)
    assert 0.2 * case.bound <= first[0] <= 0.8 * case.bound
    assert second[0] == first[0] + faults.AWAY
    assert faults.kill_once(3, system, case)[0][0] == first[0]
    first[1]()
    second[1]()
    assert calls == ["kill 1", "restart 1"]


def test_records_are_counted_where_they_are(tmp_path: Path) -> None:
    assert records.totals(tmp_path) == (0, 0)
    with sqlite3.connect(tmp_path / "facts.db") as connection:
        connection.execute("create table records (header blob, body blob)")
        connection.execute("insert into records values (x'0102', x'03'), (x'04', x'0506')")
    connection.close()
    assert records.totals(tmp_path) == (2, 6)


def test_seeded_publishes_differ_by_name() -> None:
    one, two = seed.publishes("generic", "a", range(2))
    assert (one.package, two.package) == ("a0", "a1")
    assert one.files[0].digest != two.files[0].digest


def test_small_files_are_made_and_counted(tmp_path: Path) -> None:
    small.make(tmp_path, 7)
    assert small.count_files(tmp_path) == 7
    assert {file.stat().st_size for file in tmp_path.rglob("*.bin")} == {small.SIZE}


def test_a_bare_socket_has_a_certificate(tmp_path: Path) -> None:
    text = bare.certificate(tmp_path).read_bytes()
    assert text.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert b"BEGIN CERTIFICATE" in text


def test_ending_what_has_ended_does_nothing() -> None:
    process: Any = SimpleNamespace(poll=lambda: 0)
    end(process)
