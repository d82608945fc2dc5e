"""How growth is told, and what a repository grows by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from simulations.bench import growing, growth
from simulations.bench.growing import Grown
from simulations.bench.summary import Sample
from store.facts import File, Publish

SIZES = (1_000, 10_000, 100_000)


def test_a_slope_is_the_power_of_the_size() -> None:
    assert growth.slope(SIZES, (2.0, 20.0, 200.0)) == pytest.approx(1)
    assert growth.slope(SIZES, (2.0, 2.0, 2.0)) == pytest.approx(0)
    assert growth.slope(SIZES, (3.0, 4.0, 5.0)) < growth.SLOPE_MAX  # logarithmic
    assert growth.slope(SIZES[:1], (3.0,)) == growth.slope(SIZES, (0.0, 1.0, 2.0)) == 0


def test_what_grows_is_named() -> None:
    samples = [
        Sample("R5", f"{size:,} versions", "atoll", 0, {"page": 0.01, "repository": size / 1e6})
        for size in SIZES
    ]
    lines = growth.table([*samples, Sample("R1", "index", "atoll", 0, {})])
    assert lines[0].count("versions") == 3
    assert any("10.0 | 10.0 | 10.0 | 0.00 |" in line for line in lines)
    assert any("1 | 10.0 | 100 | 1.00 grows |" in line for line in lines)
    assert growth.table([]) == []


def test_a_version_repeats_the_pattern_under_its_own_name() -> None:
    name = f"{growing.PROJECT}/{growing.VERSION}/{growing.PROJECT}.bin"
    file = File(name, "file", "sha256:00", 7, b"m", (("md5", "0"),), b'{"name":"pattern"}')
    pattern = Publish("generic", f"{growing.PROJECT}/{growing.VERSION}", "", (file,))
    found = growing.about(pattern, growing.grown(123))
    assert found.package == "grown000012/1.0.3"
    (made,) = found.files
    assert made.path == "grown000012/1.0.3/grown000012.bin"
    assert made.metadata == b'{"name":"grown000012"}'
    content = Grown("grown000012", "1.0.3").content
    assert (made.digest, made.size) == (
        f"sha256:{hashlib.sha256(content).hexdigest()}",
        len(content),
    )


def test_bytes_lie_where_the_node_looks(tmp_path: Path) -> None:
    growing.place(tmp_path, b"content")
    (found,) = (tmp_path / "blobs").rglob("*/*")
    assert found.name == hashlib.sha256(b"content").hexdigest()
    assert found.parent.name == found.name[:2]
