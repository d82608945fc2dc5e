"""Credentials towards an upstream: sent to its own origin only, and never shown.

Spec: RFC 7617 (Basic), RFC 6750 (Bearer), distribution "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import msgspec

from node.upstream.settings import Secrets, Upstream
from node.upstream.urls import Target, parse
from store.errors import UpstreamError

TOKENS_MAX = 512  # of different scopes, kept at a time
TOKEN_SIZE_MAX = 64 << 10  # bytes of a token endpoint's answer
LIFE, LIFE_MAX = 60.0, 3600.0  # seconds that a token is believed if its answer says nothing; ever
PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A Bearer challenge that names where tokens are given."""

    realm: str
    service: str = ""
    scope: str = ""

    @property
    def url(self) -> str:
        """The token endpoint with its query."""
        pairs = [("service", self.service), *(("scope", each) for each in self.scope.split())]
        query = urlencode([(name, value) for name, value in pairs if value])
        mark = "&" if urlsplit(self.realm).query else "?"
        return f"{self.realm}{mark}{query}" if query else self.realm


class TokenAnswer(msgspec.Struct):
    """What a token endpoint answers."""

    token: str = ""
    access_token: str = ""
    expires_in: float = LIFE


def read_challenge(header: str) -> Challenge | None:
    """The Bearer challenge of a WWW-Authenticate header; None if there is none to follow."""
    found = re.search(r"(?:^|,)\s*bearer\s+", header[:4096], re.IGNORECASE)
    if found is None:
        return None
    values = {
        each[1].lower(): re.sub(r"\\(.)", r"\1", each[2]) if each[2] is not None else each[3]
        for each in PARAMETER.finditer(header[:4096], found.end())
    }
    realm = values.get("realm", "")
    if not realm.startswith(("https://", "http://")):
        return None
    return Challenge(realm, values.get("service", ""), values.get("scope", ""))


def read_token(data: bytes) -> tuple[str, float]:
    """A token and its life in seconds.  Raises UpstreamError."""
    try:
        answer = msgspec.json.decode(data, type=TokenAnswer, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError("upstream's token endpoint answered no token") from None
    token = answer.token or answer.access_token
    if not token or not re.fullmatch(r"[\x21-\x7e]{1,32768}", token):
        raise UpstreamError("upstream's token endpoint answered no token")
    return token, min(max(answer.expires_in, LIFE), LIFE_MAX)


class Credentials:
    """What may be sent where.  ``now`` is monotonic, in seconds."""

    def __init__(self, upstream: Upstream, secrets: Secrets) -> None:
        self._origin = parse(upstream.url).origin
        self._upstream, self._secrets = upstream, secrets
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __repr__(self) -> str:
        """Nothing that a log could keep."""
        return f"Credentials({self._upstream.auth_type})"

    @property
    def basic(self) -> str:
        """The Basic field value, or "" without a user."""
        if self._upstream.auth_type != "basic":
            return ""
        pair = f"{self._upstream.username}:{self._secrets.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def headers(self, target: Target, scope: str, now: float) -> dict[str, str]:
        """Authorization and custom headers for a target: none at all at a foreign origin."""
        if target.origin != self._origin:
            return {}
        found = dict(self._secrets.headers)
        kept = self._tokens.get(scope)
        if kept is not None and now < kept[1]:
            found["authorization"] = f"Bearer {kept[0]}"
        elif self._upstream.auth_type == "bearer" and self._secrets.password:
            found["authorization"] = f"Bearer {self._secrets.password}"
        elif self.basic:
            found["authorization"] = self.basic
        return found

    def for_realm(self, target: Target) -> dict[str, str]:
        """What a token endpoint gets: over https, or at the upstream's own origin, the password.

        Registries keep their token endpoints on other hosts; the upstream, who knows the password
        anyway, is trusted to name its own.
        """
        safe = target.scheme == "https" or target.origin == self._origin
        return {"authorization": self.basic} if self.basic and safe else {}

    def keep(self, scope: str, token: str, until: float) -> None:
        """Remember a token for a scope."""
        self._tokens[scope] = (token, until)
        self._tokens.move_to_end(scope)
        while len(self._tokens) > TOKENS_MAX:
            self._tokens.popitem(last=False)

    def forget(self, scope: str) -> None:
        """Drop a token that was refused."""
        self._tokens.pop(scope, None)
