"""Invitations as texts and in the inviter's book."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.invitation import KEPT, OPEN_MAX, Book, Invitation, read, write
from store.errors import RejectedError


def issue(book: Book, expires: float = 100.0) -> Invitation:
    return book.issue(
        b"m" * 32,
        b"n" * 32,
        b"k" * 32,
        ("tls://h:1",),
        site="s",
        roles=("writer",),
        scopes=("*",),
        expires=expires,
        rng=random.Random(len(book.granted)),
    )


def test_the_text_says_all_and_hides_the_secret_from_logs() -> None:
    found = issue(Book())
    assert read(f"  {write(found)}\n") == found
    assert found.secret.hex() not in repr(found)
    assert repr(found.secret) not in repr(found)


@given(st.data())
def test_a_damaged_text_is_refused(data: st.DataObject) -> None:
    text = write(issue(Book()))
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("AZaz09-_! "))
    damaged = text[:at] + other + text[at + 1 :]
    if damaged != text:
        with pytest.raises(RejectedError):
            read(damaged)


@given(st.text(max_size=300))
def test_any_other_text_is_refused(text: str) -> None:
    for candidate in (text, "atoll-invite-" + text):
        with pytest.raises(RejectedError):
            read(candidate)


def test_an_invitation_is_used_once_and_in_time() -> None:
    book = Book()
    found = issue(book)
    assert book.secret_of(found.id, 99.0) == found.secret
    assert book.secret_of(found.id, 100.0) == found.secret  # so that it can be told what is wrong
    assert book.secret_of(found.id, 100.0 + KEPT) is None
    entry = book.use(found.id, b"one", 50.0)
    with pytest.raises(RejectedError, match="used"):
        book.use(found.id, b"two", 50.0)
    assert book.use(found.id, b"one", 50.0) == entry  # it was cut off and comes again
    book.sign(entry)
    assert book.use(found.id, b"one", 50.0).signed
    book.give_back(entry)
    with pytest.raises(RejectedError, match="expired"):
        book.use(found.id, b"two", 100.0)
    with pytest.raises(RejectedError, match="evicted since"):
        book.use(found.id, b"two", 50.0, evicted=1)
    assert not book.use(found.id, b"two", 50.0).signed
    assert book.use(found.id, b"two", 500.0, evicted=1).key  # it had to wait
    with pytest.raises(RejectedError, match="withdrawn"):
        book.use(bytes(16), b"two", 50.0)
    assert not book.withdraw(found.id.hex())
    other = issue(book)
    assert book.withdraw(other.id.hex())
    issue(book)
    book.expire(200.0 + KEPT)
    assert book.granted == {}


def test_open_invitations_are_bounded() -> None:
    book = Book()
    for _ in range(OPEN_MAX):
        issue(book)
    with pytest.raises(RejectedError):
        issue(book)
