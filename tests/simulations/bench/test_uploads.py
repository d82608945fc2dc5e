"""Uploads at once: failures are counted, and what was accepted is read back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from formats.debian.deb import read_deb
from simulations.bench import payloads, publishing, servers, uploads
from simulations.bench.client import AnswerError
from simulations.bench.servers import Server
from simulations.bench.uploads import Job


def job(content: bytes, url: str = "") -> Job:
    def send() -> str:
        if not url:
            raise AnswerError("507")
        return url

    return Job(len(content), hashlib.sha256(content).hexdigest(), send)


def test_failures_are_counted_and_not_timed() -> None:
    urls: list[str] = []
    values = uploads._sent([job(b"one", "http://a"), job(b"two")], urls)
    assert (values["requests"], values["failed"], values["bytes"]) == (1, 1, 3)
    assert urls == ["http://a", ""]


def test_every_accepted_upload_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(url: str) -> tuple[int, str]:
        if url == "gone":
            raise AnswerError("404")
        return 3, hashlib.sha256(b"one").hexdigest()

    monkeypatch.setattr(uploads, "sha256_of", read)
    jobs = [job(b"one"), job(b"two"), job(b"ones"), job(b"one"), job(b"one")]
    assert uploads.wrong(jobs, ["there", "there", "there", "gone", ""]) == 3


def test_formats_take_turns_on_our_node_only(tmp_path: Path) -> None:
    ours = servers.atoll(tmp_path)
    ours.url = "http://node"
    peer = Server("peer", "1", (), {}, "http://peer", "/", tmp_path, "", 1)
    mine = uploads.mixture(ours, 0, size=1000, count=12)
    theirs = uploads.mixture(peer, 0, size=1000, count=12)
    assert len({each.sha256 for each in mine}) == len({each.sha256 for each in theirs}) == 12
    assert {each.size for each in theirs} == {1000}
    assert all(each.size >= 1000 for each in mine)


def test_a_stream_is_cut_without_loss() -> None:
    whole = b"".join(payloads.stream(10_000_000, "seed"))
    assert len(whole) == 10_000_000
    assert whole != b"".join(payloads.stream(10_000_000, "other"))
    cut = list(publishing.pieces(payloads.stream(10_000_000, "seed"), 4_000_000))
    assert [len(each) for each in cut] == [4_000_000, 4_000_000, 2_000_000]
    assert b"".join(cut) == whole


def test_a_package_is_one_that_we_would_take(tmp_path: Path) -> None:
    file = tmp_path / "bench_1.0_all.deb"
    file.write_bytes(payloads.deb("bench", "1.0", 5000))
    with file.open("rb") as opened:
        package = read_deb(opened)
    assert (package.name, package.version, package.architecture) == ("bench", "1.0", "all")
