"""Whose bearer tokens count, and for whom secrets are sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from node.keys import NodeKeys
from store import identity
from store.errors import UnavailableError
from store.identity import Identity
from tests.node.world import world


@dataclass
class Authority:
    """Members by their roles and keys."""

    known: Mapping[str, tuple[frozenset[str], bytes]]

    def members(self) -> Mapping[str, object]:
        return self.known

    def roles(self, node: str) -> frozenset[str]:
        return self.known[node][0] if node in self.known else frozenset()

    def current_key(self, node: str) -> bytes | None:
        return self.known[node][1] if node in self.known else None


@dataclass
class Ledger:
    authority: Authority
    identity: Identity


def made(folder: Path, name: str) -> Identity:
    (folder / name).mkdir()
    return identity.load(folder / name)


@pytest.fixture
def members(tmp_path: Path) -> tuple[dict[str, Identity], NodeKeys]:
    roles = {
        "me": {"writer"},
        "owner": {"owner"},
        "admin": {"writer", "admin"},
        "writer": {"writer"},
        "mirror": {"mirror"},
        "courier": {"courier"},
    }
    found = {name: made(tmp_path, name) for name in roles}
    known = {found[name].node: (frozenset(held), found[name].key) for name, held in roles.items()}
    ledger = Ledger(Authority(known), found["me"])
    return found, NodeKeys(cast("Any", ledger))


def test_only_members_that_administer_can_vouch_for_users(
    members: tuple[dict[str, Identity], NodeKeys], tmp_path: Path
) -> None:
    """A mirror could sign itself a token of any user, and every node believed it."""
    found, keys = members
    for name, believed in {
        "me": True,
        "owner": True,
        "admin": True,
        "writer": False,
        "mirror": False,
        "courier": False,
    }.items():
        public = keys.public(found[name].node)
        assert (public is not None) is believed, name
        if public is not None:
            assert public.public_bytes_raw() == found[name].key
    assert keys.public(made(tmp_path, "stranger").node) is None
    assert keys.public("") is None
    assert keys.private().public_key().public_bytes_raw() == found["me"].key


def test_signing_keys_are_for_members_that_write(
    members: tuple[dict[str, Identity], NodeKeys],
) -> None:
    found, keys = members
    wanted = {found[name].node for name in ("me", "owner", "admin", "writer")}
    assert set(keys.members()) == wanted


def test_what_is_sealed_opens_for_its_member_only(
    members: tuple[dict[str, Identity], NodeKeys],
) -> None:
    found, keys = members
    sealed = keys.seal(keys.node, b"secret")
    assert b"secret" not in sealed
    assert keys.unseal(sealed) == b"secret"
    with pytest.raises(UnavailableError, match="not sealed to this node"):
        keys.unseal(keys.seal(found["owner"].node, b"secret"))
    with pytest.raises(UnavailableError):
        keys.unseal(b"nonsense" * 10)
    with pytest.raises(UnavailableError, match="not a member"):
        keys.seal("stranger", b"secret")


async def test_a_mesh_of_one_vouches_for_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        keys = NodeKeys(node.core.ledger)
        assert list(keys.members()) == [keys.node]
        assert keys.public(keys.node) is not None
        assert keys.unseal(keys.seal(keys.node, b"x")) == b"x"
