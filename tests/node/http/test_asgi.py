"""The extensions every scope offers."""

from __future__ import annotations

from node.http.asgi import RejectedRequestError, extensions


def test_each_scope_has_extensions_of_its_own() -> None:
    first, second = extensions(), extensions()
    first["http.response.reason"]["mark"] = 1
    assert second == {"http.response.zerocopysend": {}, "http.response.reason": {}}


def test_a_refusal_knows_its_status() -> None:
    refusal = RejectedRequestError(413, "too large")
    assert (refusal.status, str(refusal)) == (413, "too large")
