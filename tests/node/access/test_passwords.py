"""Passwords: what is stored, what is verified, what is remembered."""

from __future__ import annotations

import pytest

from node.access import passwords
from node.access.passwords import LENGTH_MAX, Passwords
from store.errors import RejectedError


async def test_the_right_password_fits_and_others_do_not() -> None:
    found = Passwords()
    encoded = await found.hash("correct horse")
    assert encoded.startswith("$argon2id$")
    assert "correct" not in encoded
    assert await found.verify(encoded, "correct horse")
    assert not await found.verify(encoded, "correct horsE")
    assert not await found.verify("not a hash", "correct horse")


async def test_no_password_fits_a_user_without_one() -> None:
    found = Passwords()
    assert not await found.verify("", "")
    assert not await found.verify("", "anything")


async def test_only_right_passwords_are_remembered_and_only_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "REMEMBERED_MAX", 2)
    found = Passwords()
    encoded = [await found.hash(f"password {n}") for n in range(3)]
    for number, each in enumerate(encoded):
        assert not found.remembers(each, f"password {number}")
        assert await found.verify(each, f"password {number}")
        assert not await found.verify(each, "wrong")
    assert not found.remembers(encoded[0], "password 0")
    assert found.remembers(encoded[2], "password 2")
    assert not found.remembers(encoded[2], "wrong")
    assert not found.remembers("", "")


async def test_what_could_never_be_verified_cannot_be_set() -> None:
    """A longer password was hashed, and then locked its user out."""
    found = Passwords()
    with pytest.raises(RejectedError, match="at most"):
        await found.hash("x" * (LENGTH_MAX + 1))
    longest = "ä" * (LENGTH_MAX // 2)
    assert await found.verify(await found.hash(longest), longest)
    assert not await found.verify(await found.hash(longest), longest + "ä")
