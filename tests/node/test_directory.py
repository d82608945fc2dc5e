"""The shared settings in memory: typed, followed, and robust against what others write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.environment import ROOT
from node.directory import KINDS, GrantEntry, GroupEntry, RepositoryEntry, TokenEntry, UserEntry
from store.errors import ConflictError
from store.facts import Setting
from tests.node.world import world


async def test_it_follows_the_ledger(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        directory, append = node.core.directory, node.core.ledger.append
        entry = RepositoryEntry(key="r", format="npm", options={"a": 1})
        await append([directory.change("r", entry)], actor="t")
        assert directory.get(RepositoryEntry, "r") == entry
        assert entry in directory.all(RepositoryEntry)
        await append([directory.remove(RepositoryEntry, "r")], actor="t")
        assert directory.get(RepositoryEntry, "r") is None


async def test_what_cannot_be_read_grants_nothing_and_stops_no_node(tmp_path: Path) -> None:
    """One malformed setting of any administering member stopped every node, and kept it down."""
    async with world(tmp_path) as node:
        directory, append = node.core.directory, node.core.ledger.append
        bad = {
            ("user", "eve"): b'{"username": "eve", "is_admin": "very"}',
            ("user", "mallory"): b"\xff",
            ("user", "trent"): b'{"username": "admin", "is_admin": true}',
            ("token", "x"): b"[]",
            ("grant", "y"): b"[" * 20_000,
            ("repository", "z"): b'{"key": "z"}',
            ("colour", "blue"): b"1",
        }
        for (kind, key), value in bad.items():
            await append([Setting(kind, key, value)], actor="t")
        assert [each.username for each in directory.all(UserEntry)] == ["admin"]
        assert len(directory.all(TokenEntry)) == 1
        assert directory.all(GrantEntry) == []
        assert directory.get(RepositoryEntry, "z") is None
        await directory.load()
        user = UserEntry(username="eve")
        await append([directory.change("eve", user)], actor="t")
        assert directory.get(UserEntry, "eve") == user


async def test_fields_of_newer_nodes_are_ignored(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        value = b'{"name": "crew", "members": ["ann"], "colour": "blue"}'
        await node.core.ledger.append([Setting("group", "crew", value)], actor="t")
        found = node.core.directory.get(GroupEntry, "crew")
        assert found is not None
        assert found.members == ("ann",)


async def test_tokens_are_found_by_their_hash_and_only_while_they_are_there(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        directory, append = node.core.directory, node.core.ledger.append
        token = TokenEntry(id="1", name="n", username="admin", sha256="aa", scopes=("read",))
        await append([directory.change("1", token)], actor="t")
        assert directory.tokens_by_hash["aa"].id == "1"
        token = TokenEntry(id="1", name="n", username="admin", sha256="bb", scopes=("read",))
        await append([directory.change("1", token)], actor="t")
        assert "aa" not in directory.tokens_by_hash
        await append([directory.remove(TokenEntry, "1")], actor="t")
        assert "bb" not in directory.tokens_by_hash


async def test_grants_reach_users_directly_and_through_groups_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        directory, append = node.core.directory, node.core.ledger.append

        def grant(id_: str, kind: str, who: str) -> Setting:
            entry = GrantEntry(
                id=id_, principal_type=kind, principal=who, repository="*", actions=("read",)
            )
            return directory.change(id_, entry)

        await append([grant("1", "user", "ann"), grant("2", "group", "crew")], actor="t")
        assert [each.id for each in directory.grants_of("ann")] == ["1"]
        crew = GroupEntry(name="crew", members=("ann", "bob"))
        await append([directory.change("crew", crew)], actor="t")
        assert [each.id for each in directory.grants_of("ann")] == ["1", "2"]
        assert [each.id for each in directory.grants_of("bob")] == ["2"]
        await append([directory.remove(GrantEntry, "2")], actor="t")
        assert list(directory.grants_of("bob")) == []


async def test_creating_what_exists_is_a_conflict_in_the_transaction(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        directory, append = node.core.directory, node.core.ledger.append
        user = UserEntry(username="ann")
        fact, check = directory.change("ann", user), directory.absent(user)
        await append([fact], actor="t", check=check)
        with pytest.raises(ConflictError, match="user 'ann' exists"):
            await append([fact], actor="t", check=check)


def test_the_documents_name_every_field() -> None:
    """The JSON of settings travels in records: another program has to know it."""
    text = (ROOT / "docs" / "ledger.md").read_text("utf-8").partition("## 8. Settings")[2]
    told = {
        kind: fields.split(", ")
        for kind, fields in re.findall(r"^\| (\w+) \| (.*) \|$", text, re.MULTILINE)
    }
    shared = {"created_at", "created_by"}
    made = {kind: set(entry.__struct_fields__) - shared for kind, entry in KINDS.items()}
    assert {kind: set(fields) for kind, fields in told.items() if kind != "kind"} == made
