"""Signatures: as documented, with both secrets after a change, and no secret in a log."""

from __future__ import annotations

import hashlib
import hmac

from node.events.signing import Secrets, header, make_secret, seal, sign, unseal


def test_a_receiver_can_verify_it() -> None:
    body = b'{"type":"artifact.created"}'
    expected = hmac.new(b"whsec_x", b"1700000000." + body, hashlib.sha256).hexdigest()
    assert sign("whsec_x", 1700000000, body) == expected
    assert header(Secrets("whsec_x"), 1700000000.9, body) == f"t=1700000000,v1={expected}"


def test_a_former_secret_signs_for_a_while() -> None:
    held = Secrets("new", "old", 100.0)
    assert header(held, 50.0, b"").count("v1=") == 2
    assert header(held, 100.0, b"").count("v1=") == 1


def test_secrets_are_long_sealed_and_never_shown() -> None:
    assert len(make_secret()) > 40
    assert make_secret() != make_secret()
    held = Secrets("whsec_x", "whsec_y", 5.0)
    assert "whsec" not in repr(held) + str(held)
    sealed = seal(held, lambda data: data[::-1])
    assert unseal(sealed, lambda data: data[::-1]) == held
