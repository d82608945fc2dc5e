"""Who is asking: passwords, API tokens and signed bearer tokens become a Caller.

A bearer token (JWT, EdDSA) is signed by the node that minted it and verifies on every member, by
the public keys in the root document.  It names the password change that it knows of, so that it
dies with the next one, whatever the clocks say.  API tokens are shared settings that hold only
a SHA-256; they outlive a password and end when they expire or are revoked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import trio

from formats.contract import Principal
from node.access.gate import ANONYMOUS, SCOPES, Caller, allowed_by
from node.access.passwords import Passwords
from node.access.rates import RateLimit
from node.directory import Directory, TokenEntry, UserEntry
from node.turns import Turns
from store.errors import NameInvalidError, UnauthorizedError
from store.facts import Fact, Setting

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

TOKEN_PREFIX = "atoll_"  # noqa: S105  not a secret: lets scanners recognise leaked tokens
AUDIENCE = "atoll"
LOGIN_LIFE = 90 * 86400.0  # seconds that the token of a client that logs in (npm, docker) lives
EXPIRED_KEPT = 86400.0  # seconds that an expired token is still listed
USERNAME_MAX = 255  # characters; longer names are nobody's
# Whose request is being answered, for the log-in routes of formats, which know no addresses.
ASKING: ContextVar[str] = ContextVar("address", default="")


class Claims(msgspec.Struct):
    """What a bearer token says beyond the registered claims."""

    sub: str = ""
    allowed: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    access: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    password: float = 0.0  # the user's last password change, as the minting node knew it
    token: str = ""  # id of the API token it was minted for, with which it ends
    exp: float = 0.0


class Writer(Protocol):
    """Appends facts to the ledger."""

    async def __call__(self, facts: Sequence[Fact], *, actor: str) -> object: ...


class Keys(Protocol):
    """The keys that sign and verify bearer tokens."""

    @property
    def node(self) -> str: ...

    def private(self) -> Ed25519PrivateKey: ...

    def public(self, node: str) -> Ed25519PublicKey | None:
        """The current key of a member, or None."""
        ...


class Accounts:
    """Log-ins and tokens, over the shared directory."""

    def __init__(
        self,
        directory: Directory,
        write: Writer,
        keys: Keys,
        *,
        token_minutes: int = 30,
        login_attempts: int = 10,
    ) -> None:
        self._directory, self._write, self._keys = directory, write, keys
        self._life = token_minutes * 60
        self.passwords = Passwords()
        self._logins = RateLimit(login_attempts, 900.0, "failed logins")
        self._turns: Turns[str] = Turns()

    # --- recognising a caller -------------------------------------------------------------------
    async def caller(self, headers: Mapping[str, str], *, address: str, native: bool) -> Caller:
        """Who sends these headers.  Raises UnauthorizedError for credentials that do not hold.

        ``native`` routes also take a token as the password of any user name.
        """
        scheme, _, value = headers.get("authorization", "").partition(" ")
        scheme, value = scheme.lower(), value.strip()
        key = headers.get("x-api-key") or headers.get("x-nuget-apikey")
        if not scheme and key:
            return self._by_token(key, address)
        if not scheme:
            return Caller(allowed=ANONYMOUS.allowed, address=address)
        if scheme == "basic":
            return await self._by_basic(value, address, native=native)
        if scheme in {"bearer", "token", "apikey"}:
            return self._by_token(value, address)
        if not value:  # cargo sends the bare token
            return self._by_token(headers["authorization"], address)
        raise UnauthorizedError(f"unsupported authorization scheme {scheme[:20]!r}")

    async def _by_basic(self, value: str, address: str, *, native: bool) -> Caller:
        try:
            text = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise UnauthorizedError("malformed Basic credentials") from None
        username, _, password = text.partition(":")
        if native:
            return await self.by_credentials(username, password, address)
        return await self.by_password(username, password, address)

    async def by_credentials(self, username: str, password: str, address: str) -> Caller:
        """As ``by_password``, where a token may stand as the password of any user name."""
        if password.startswith(TOKEN_PREFIX) or password.count(".") == 2:
            try:
                return self._by_token(password, address)
            except UnauthorizedError:
                if password.startswith(TOKEN_PREFIX):
                    raise
        return await self.by_password(username, password, address)

    async def by_password(self, username: str, password: str, address: str) -> Caller:
        """Verify a password.  Raises UnauthorizedError, TooManyRequestsError."""
        user = self._directory.get(UserEntry, username)
        encoded = user.password if user and not user.disabled else ""
        if not self.passwords.remembers(encoded, password):
            bucket = f"{username}\0{address or ASKING.get()}"
            await self._guess(bucket, encoded, password)
            user = self._directory.get(UserEntry, username)  # it may have changed meanwhile
        if user is None or user.disabled or user.password != encoded:
            raise UnauthorizedError("wrong user name or password")
        return Caller(user.username, "user", user.is_admin, address=address)

    async def _guess(self, bucket: str, encoded: str, password: str) -> None:
        """Try a password that is not known to be right, one at a time for each who guesses.

        Judged before it is tried, or the limit would only change what a wrong guess is told.
        """
        async with self._turns.of(bucket):
            self._logins.check(bucket, trio.current_time())
            if not await self.passwords.verify(encoded, password):
                self._logins.take(bucket, trio.current_time())
                raise UnauthorizedError("wrong user name or password")
            self._logins.forgive(bucket)

    def _by_token(self, token: str, address: str) -> Caller:
        if token.startswith(TOKEN_PREFIX):
            return self._by_api_token(token, address)
        return self._by_bearer(token, address)

    def _by_api_token(self, token: str, address: str) -> Caller:
        # The look-up is by a hash of the whole secret, so its timing tells nothing about it.
        entry = self._directory.tokens_by_hash.get(_hash(token))
        if entry is None or entry.disabled or 0 < entry.expires_at < time.time():
            raise UnauthorizedError("unknown, revoked or expired token")
        user = self._directory.get(UserEntry, entry.username)
        if user is None or user.disabled:
            raise UnauthorizedError("the token's user is disabled")
        return Caller(
            user.username,
            "token",
            user.is_admin,
            allowed=allowed_by(entry.scopes),
            repositories=entry.repositories,
            address=address,
            expires_at=entry.expires_at,
            token=entry.id,
        )

    def _by_bearer(self, token: str, address: str) -> Caller:
        claims = self._claims(token)
        pairs = None
        if claims.access is not None:
            pairs = tuple((key, frozenset(actions)) for key, actions in claims.access)
        if not claims.sub:
            return Caller(allowed=ANONYMOUS.allowed, access=pairs, address=address)
        user = self._directory.get(UserEntry, claims.sub)
        if user is None or user.disabled or user.password_changed_at != claims.password:
            raise UnauthorizedError("the token is no longer valid")
        if claims.token:
            origin = self._directory.get(TokenEntry, claims.token)
            if origin is None or origin.disabled:
                raise UnauthorizedError("the token that this one was made for is revoked")
        return Caller(
            user.username,
            "token",
            user.is_admin,
            frozenset(claims.allowed),
            claims.repositories,
            access=pairs,
            address=address,
            expires_at=0.0 if pairs is None else claims.exp,
            token=claims.token,
        )

    def _claims(self, token: str) -> Claims:
        import jwt  # a tenth of a start, and most requests show no such token

        try:
            node = str(jwt.get_unverified_header(token).get("kid", ""))
            public = self._keys.public(node)
            if public is None:
                raise UnauthorizedError("token of an unknown node")
            options: Any = {"require": ["exp", "iat", "aud"]}
            claims = jwt.decode(
                token, public, ["EdDSA"], options=options, audience=AUDIENCE, leeway=30
            )
            return msgspec.convert(claims, Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
            raise UnauthorizedError("invalid or expired token") from error

    # --- minting --------------------------------------------------------------------------------
    def bearer(
        self,
        caller: Principal,
        access: Sequence[tuple[str, Sequence[str]]] | None = None,
        *,
        life: int | None = None,
    ) -> tuple[str, int]:
        """Sign a short-lived token for the caller, never wider than its own credentials."""
        import jwt

        now = int(time.time())
        end = now + (life or self._life)
        if isinstance(caller, Caller) and caller.expires_at:  # else it could be renewed for ever
            end = min(end, int(caller.expires_at))
        user = self._directory.get(UserEntry, caller.name)
        claims: dict[str, Any] = {
            "iss": self._keys.node,
            "aud": AUDIENCE,
            "sub": caller.name,
            "iat": now,
            "exp": end,
            "jti": uuid.uuid4().hex,
            "password": user.password_changed_at if user else 0.0,
        }
        if isinstance(caller, Caller):
            claims["allowed"] = sorted(caller.allowed)
            claims["repositories"] = list(caller.repositories)
            claims["token"] = caller.token
        if access is not None:
            claims["access"] = [[key, sorted(actions)] for key, actions in access]
        token = jwt.encode(claims, self._keys.private(), "EdDSA", headers={"kid": self._keys.node})
        return token, max(0, end - now)

    async def create_token(
        self,
        username: str,
        name: str,
        scopes: Sequence[str],
        *,
        actor: str,
        repositories: Sequence[str] = (),
        expires_at: float = 0.0,
    ) -> tuple[str, TokenEntry]:
        """Make an API token; the secret is returned once and never stored."""
        unknown = [each for each in scopes if each not in SCOPES]
        if unknown or not scopes:
            raise NameInvalidError(f"unknown scope {unknown}; known: {', '.join(SCOPES)}")
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        entry = TokenEntry(
            id=uuid.uuid4().hex,
            name=name,
            username=username,
            sha256=_hash(secret),
            scopes=tuple(scopes),
            repositories=tuple(repositories),
            expires_at=expires_at,
            created_at=time.time(),
            created_by=actor,
        )
        await self._write([self._directory.change(entry.id, entry)], actor=actor)
        return secret, entry

    async def login(self, username: str, password: str) -> str:
        """Log in for a client that keeps a token (npm, docker).

        An API token given as the password is what the client keeps.  Raises UnauthorizedError,
        TooManyRequestsError.
        """
        if password.startswith(TOKEN_PREFIX):
            self._by_api_token(password, "")
            return password
        caller = await self.by_password(username, password, "")
        scopes = ["read", "write", "delete"]
        expires = time.time() + LOGIN_LIFE
        secret, _ = await self.create_token(
            caller.name, "login", scopes, actor=caller.name, expires_at=expires
        )
        return secret

    async def logout(self, token: str) -> None:
        """Revoke an API token; unknown ones are ignored."""
        entry = self._directory.tokens_by_hash.get(_hash(token))
        if entry is not None:
            await self._write([self._directory.remove(TokenEntry, entry.id)], actor=entry.username)

    async def expire(self) -> int:
        """Remove tokens that expired more than a day ago; returns how many."""
        limit = time.time() - EXPIRED_KEPT
        old = [
            self._directory.remove(TokenEntry, each.id)
            for each in self._directory.all(TokenEntry)
            if 0 < each.expires_at < limit
        ]
        if old:
            await self._write(old, actor="node")
        return len(old)

    async def user_fact(self, entry: UserEntry, password: str | None) -> Setting:
        """The fact that creates or changes a user, with a new password if one is given."""
        if password is not None:
            entry.password = await self.passwords.hash(password)
            entry.password_changed_at = time.time()
        return self._directory.change(entry.username, entry)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
