"""Packages are read in groups that fit memory, and those that do not fit by way of the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from formats.releases import Edition
from node.retention import reading
from node.retention.reading import grouped, read
from store.rows import PackageRow
from tests.node.promotion.staged import Staged, staged


def row(name: str, files: int) -> PackageRow:
    return PackageRow("r", name, files, 0, 0.0)


def test_groups_hold_so_many_files_or_one_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FILES_MAX", 5000)
    rows = [row("a", 2000), row("b", 2999), row("c", 2), row("d", 9000), row("e", 1)]
    names = [[each.package for each in group] for group in grouped(rows)]
    assert names == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(grouped([])) == []


async def everything(stage: Staged, only: tuple[str, ...] = ()) -> list[tuple[str, Edition, bool]]:
    core = stage.node.core
    entry = core.entry("stage")
    served = core.format_of(stage.kind.form)
    assert entry is not None
    assert served is not None
    found = []
    async for each in read(core.catalog, core.open(entry), served, only=only):
        for held in each.held:
            found += [(held.package, edition, held.large) for edition in held.editions]
    return found


@pytest.mark.parametrize("form", ["generic", "pypi", "docker"])
async def test_a_large_package_is_read_alike(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, form) as stage:
        for version in ("1.0", "3.0", "2.0"):
            await stage.publish(version)
        small = await everything(stage)
        monkeypatch.setattr(reading, "FILES_MAX", 1)
        large = await everything(stage)
        assert [each[:2] for each in large] == [each[:2] for each in small]
        assert {each[2] for each in small} == {False}
        assert {each[2] for each in large} == {form != "docker"}, "an image is read whole"
        published = [edition.published for _, edition, _ in large]
        assert published == sorted(published, reverse=True)
        assert await everything(stage, (small[0][0], "none")) == large
