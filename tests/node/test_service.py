"""First and later starts: what a node makes for itself, once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from formats import discover
from node import service
from node.config import Access, Config
from node.control import DirectoryBusyError
from node.core import Core
from node.directory import RepositoryEntry, UserEntry
from node.service import open_core
from tests.node.world import PASSWORD

KEYS = sorted(each.keys[0] for each in discover())


def config(folder: Path, password: str = PASSWORD) -> Config:
    return Config(data=str(folder / "data"), access=Access(admin_password=password))


def keys(core: Core) -> list[str]:
    return [each.key for each in core.directory.all(RepositoryEntry)]


async def records(core: Core) -> int:
    return sum(seq for seq, _ in (await core.ledger.heads()).values())


async def test_the_first_start_makes_it_usable_and_the_second_adds_nothing(tmp_path: Path) -> None:
    async with open_core(config(tmp_path)) as core:
        assert keys(core) == KEYS
        assert all(each.is_public for each in core.directory.all(RepositoryEntry))
        (admin,) = core.directory.all(UserEntry)
        assert (admin.username, admin.is_admin) == ("admin", True)
        assert (await core.accounts.by_password("admin", PASSWORD, "")).admin
        before, node = await records(core), core.identity.node
    async with open_core(config(tmp_path)) as core:
        assert (await records(core), core.identity.node) == (before, node)
        assert keys(core) == KEYS


async def test_a_password_is_made_up_printed_once_and_kept_for_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_core(config(tmp_path, "")) as core:
        file = tmp_path / "data" / "admin.password"
        password = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(password) >= 20
        assert (await core.accounts.by_password("admin", password, "")).admin
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count(password) == 1
    async with open_core(config(tmp_path, "")):
        assert file.read_text().strip() == password
    assert password not in capsys.readouterr().err


async def test_a_chosen_password_is_neither_printed_nor_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_core(config(tmp_path)):
        assert not (tmp_path / "data" / "admin.password").exists()
    assert PASSWORD not in "".join(capsys.readouterr())


async def test_a_start_that_was_killed_midway_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker was written before the repositories: they never came."""

    class Killed(Exception):  # noqa: N818  it stands for a signal
        pass

    with monkeypatch.context() as patch:

        def kill(*_: object, **__: object) -> None:
            raise Killed

        patch.setattr(service.Ledger, "append", kill)
        with pytest.raises(Killed):
            async with open_core(config(tmp_path)):
                pass
    async with open_core(config(tmp_path)) as core:
        assert keys(core) == KEYS
        assert (await core.accounts.by_password("admin", PASSWORD, "")).admin


async def test_deleted_default_repositories_stay_deleted(tmp_path: Path) -> None:
    async with open_core(config(tmp_path)) as core:
        await core.ledger.append([core.directory.remove(RepositoryEntry, "npm")], actor="t")
    async with open_core(config(tmp_path)) as core:
        assert keys(core) == [key for key in KEYS if key != "npm"]


async def test_a_new_format_gets_its_repository_on_an_old_node(tmp_path: Path) -> None:
    async with open_core(config(tmp_path)) as core:
        await core.ledger.append([core.directory.remove(RepositoryEntry, "npm")], actor="t")
        marker = tmp_path / "data" / "provisioned"
        marker.write_text("\n".join(key for key in KEYS if key != "npm"))
    async with open_core(config(tmp_path)) as core:
        assert keys(core) == KEYS


async def test_who_joins_makes_nothing(tmp_path: Path) -> None:
    async with open_core(config(tmp_path), joining=True) as core:
        assert keys(core) == []
        assert core.directory.all(UserEntry) == []
        assert core.operator().admin


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    async with open_core(config(tmp_path)):
        with pytest.raises(DirectoryBusyError):
            async with open_core(config(tmp_path)):
                pass


async def test_threads_get_their_turn(tmp_path: Path) -> None:
    before = sys.getswitchinterval()
    try:
        async with open_core(config(tmp_path)):
            assert sys.getswitchinterval() == pytest.approx(1e-4)
    finally:
        sys.setswitchinterval(before)
