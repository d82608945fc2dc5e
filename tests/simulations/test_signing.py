"""Cheap signatures: nobody can sign for another, and the product checks them."""

from __future__ import annotations

import mesh.handshake
import store.identity
from simulations.signing import CheapIdentity, identity, signatures, verify

SEED, OTHER = bytes(32), b"\1" * 32


def test_a_signature_is_by_the_holder_of_the_key_over_these_words():
    with signatures(real=False):
        signer, stranger = identity(SEED, real=False), identity(OTHER, real=False)
        said = signer.sign(b"words")
        assert len(said) == 64
        assert len(signer.key) == 32
        assert verify(signer.key, b"words", said)
        assert not verify(signer.key, b"other words", said)
        assert not verify(stranger.key, b"words", said)
        assert not verify(signer.key, b"words", stranger.sign(b"words"))
        assert not verify(bytes(32), b"words", said)
        assert not verify(signer.key, b"words", b"")


def test_the_product_checks_them_while_a_history_is_played_and_not_after():
    real = store.identity.verify, mesh.handshake.verify
    with signatures(real=False):
        signer = CheapIdentity.from_seed(SEED)
        key, said = signer.key, signer.sign(b"words")
        assert store.identity.verify(signer.key, b"words", said)
        assert mesh.handshake.verify(signer.key, b"words", said)
        assert not store.identity.verify(signer.key, b"words", bytes(64))
    assert (store.identity.verify, mesh.handshake.verify) == real
    assert not verify(key, b"words", said)  # forgotten with its history


def test_a_share_of_histories_is_signed_in_earnest():
    with signatures(real=True):
        signer = identity(SEED, real=True)
        assert store.identity.verify(signer.key, b"words", signer.sign(b"words"))
        assert type(signer) is store.identity.Identity


def test_another_key_is_as_cheap_and_the_old_one_stays_at_hand():
    with signatures(real=False):
        one = identity(SEED, real=False)
        two = one.rotate(OTHER)
        assert type(two) is CheapIdentity
        assert two.node == one.node
        assert two.key != one.key
        assert verify(two.key, b"words", two.sign(b"words"))
        assert set(two.held()) == {one.key, two.key}


def test_lives_are_numbered_alike_in_every_play():
    plays = []
    for _ in range(2):
        with signatures(real=False):
            plays.append([store.identity.new_incarnation(now=1.0) for _ in range(3)])
    assert plays[0] == plays[1]
    assert len(set(plays[0])) == 3
