"""Repositories' OpenPGP keys: the same bytes from every member, and nothing left lying about."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from nacl.public import PrivateKey

from node import signing
from node.signing import KIND, Keyring, SigningKey
from store.errors import UnavailableError
from tests.node.members import Member, Mesh

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="GnuPG is not installed")
TIME = 1_700_000_000.0


def keyring(mesh: Mesh, node: str, marker: Path | None = None) -> Keyring:
    return Keyring(mesh, Member(mesh, node), mesh.write, marker)


def gpg(home: Path, *arguments: str, stdin: bytes = b"") -> str:
    home.mkdir(mode=0o700, exist_ok=True)
    done = subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


async def test_members_sign_with_one_key_and_the_same_bytes(tmp_path: Path) -> None:
    mesh = Mesh(KIND, "a", "b")
    text = b"Origin: atoll\nSuite: stable\n"
    async with keyring(mesh, "a") as first, keyring(mesh, "b") as second:
        one, two = first.signer("debian"), second.signer("debian")
        public = await one.public_key()
        clear = await one.clear_sign(text, time=TIME)
        detached = await one.detach_sign(text, time=TIME)
        assert await one.clear_sign(text, time=TIME) == clear
        assert await two.public_key() == public
        assert await two.clear_sign(text, time=TIME) == clear
        assert await two.detach_sign(text, time=TIME) == detached
        assert await one.clear_sign(text, time=TIME + 1) != clear
        assert await second.signer("other").public_key() != public
    home = tmp_path / "g"
    gpg(home, "--import", stdin=public)
    assert "Good signature" in gpg(home, "--verify", stdin=clear)
    (tmp_path / "sig").write_bytes(detached)
    assert "Good signature" in gpg(home, "--verify", str(tmp_path / "sig"), "-", stdin=text)


async def test_the_private_half_is_only_in_the_members_boxes() -> None:
    mesh = Mesh(KIND, "a", "b")
    async with keyring(mesh, "a") as found:
        await found.key("debian")
    value = mesh.rows["debian"].value
    assert b"PRIVATE" not in value
    key = msgspec.json.decode(value, type=SigningKey)
    assert sorted(key.sealed) == ["a", "b"]
    assert "PUBLIC KEY" in key.public


async def test_a_new_member_gets_the_key_when_somebody_shares_it() -> None:
    mesh = Mesh(KIND, "a")
    async with keyring(mesh, "a") as first:
        clear = await first.signer("debian").clear_sign(b"x\n", time=TIME)
        mesh.boxes["b"] = PrivateKey.generate()
        async with keyring(mesh, "b") as second:
            with pytest.raises(UnavailableError, match="does not hold"):
                await second.signer("debian").clear_sign(b"x\n", time=TIME)
            assert await second.share() == 0
            assert await first.share() == 1
            assert await first.share() == 0
            assert await second.signer("debian").clear_sign(b"x\n", time=TIME) == clear


async def test_without_gnupg_it_is_unavailable_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    async with keyring(Mesh(KIND, "a"), "a") as found:
        with pytest.raises(UnavailableError, match="install the package gnupg"):
            await found.signer("debian").public_key()


async def test_keys_leave_the_disk_at_the_end_and_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, mesh = tmp_path / "gnupg.home", Mesh(KIND, "a")
    async with keyring(mesh, "a", marker) as found:
        await found.signer("debian").detach_sign(b"x", time=TIME)
        home = Path(marker.read_text())
        assert home.stat().st_mode & 0o777 == 0o700
        assert home.name.startswith(signing.PREFIX)
    assert not home.exists()
    assert not marker.exists()
    home.mkdir()
    (home / "private").write_text("left by a crash")
    marker.write_text(str(home))
    async with keyring(mesh, "a", marker):
        assert not home.exists()
        assert not marker.exists()
    innocent = tmp_path / "innocent"
    innocent.mkdir()
    marker.write_text(str(innocent))
    async with keyring(mesh, "a", marker):
        assert innocent.exists()
        assert not marker.exists()
