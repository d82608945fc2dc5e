"""Logging in and out, and the caller's own tokens."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import msgspec

from node.access.gate import Caller, allowed_by
from node.api.contract import Access, Call, Long, Names, Short, Table
from node.directory import TokenEntry, UserEntry
from store.errors import DeniedError, NotFoundError, RejectedError, UnauthorizedError

table = Table("auth")
REFRESH = "auth:refresh"  # what a refresh token is for; no repository can have this key


class Credentials(msgspec.Struct):
    username: Short
    password: Long


class LoginAnswer(msgspec.Struct):
    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int
    must_change_password: bool


class Refresh(msgspec.Struct):
    refresh_token: Annotated[str, msgspec.Meta(max_length=16384)]


class Me(msgspec.Struct):
    username: str
    email: str
    display_name: str
    is_admin: bool


class NewToken(msgspec.Struct):
    name: Short
    scopes: Names
    expires_in_days: int | None = None
    repositories: Names = []
    username: Short = ""


class TokenView(msgspec.Struct):
    id: str
    name: str
    username: str
    scopes: list[str]
    repositories: list[str]
    created_at: float
    expires_at: float | None


class CreatedToken(TokenView, kw_only=True):
    token: str


class TokenList(msgspec.Struct):
    items: list[TokenView]


def view_token(entry: TokenEntry) -> TokenView:
    """A token without its secret, which nobody has."""
    return TokenView(
        entry.id,
        entry.name,
        entry.username,
        list(entry.scopes),
        list(entry.repositories),
        entry.created_at,
        entry.expires_at or None,
    )


def _answer(call: Call, caller: Caller) -> LoginAnswer:
    access, life = call.core.accounts.bearer(caller)
    refresh, _ = call.core.accounts.bearer(caller, [(REFRESH, [])], life=7 * 86400)
    return LoginAnswer(access, refresh, "Bearer", life, must_change_password=False)


@table.route("POST", "/auth/login", Access.OPEN, body=Credentials, answer=LoginAnswer)
async def login(call: Call) -> LoginAnswer:
    """Exchange a user name and password for a short-lived bearer token."""
    body: Credentials = call.body
    try:
        caller = await call.core.accounts.by_password(
            body.username, body.password, call.caller.address
        )
    except UnauthorizedError:
        await call.note("login", body.username, outcome="refused")
        raise
    await call.note("login", caller.name)
    return _answer(call, caller)


@table.route("POST", "/auth/refresh", Access.OPEN, body=Refresh, answer=LoginAnswer)
async def refresh(call: Call) -> LoginAnswer:
    """Exchange a refresh token for a new pair."""
    headers = {"authorization": f"Bearer {call.body.refresh_token}"}
    caller = await call.core.accounts.caller(headers, address=call.caller.address, native=False)
    if not caller.access or caller.access[0][0] != REFRESH:
        raise UnauthorizedError("not a refresh token")
    return _answer(call, replace(caller, access=None, expires_at=0.0))


class OperatorToken(msgspec.Struct):
    token: str


@table.route("POST", "/auth/operator", Access.USER, answer=OperatorToken)
async def operator_token(call: Call) -> OperatorToken:
    """Give the operator at the control connection a bearer token for native routes."""
    if call.caller.kind != "operator":
        raise DeniedError("only over the control connection")
    return OperatorToken(call.core.accounts.bearer(call.caller, life=3600)[0])


@table.route("POST", "/auth/logout", Access.USER, status=204)
async def logout(call: Call) -> None:
    """End a session; bearer tokens run out by themselves, API tokens are revoked."""
    _, _, token = call.headers.get("authorization", "").partition(" ")
    await call.core.accounts.logout(token.strip())


@table.route("GET", "/auth/me", Access.USER, answer=Me)
async def me(call: Call) -> Me:
    """Tell who is asking."""
    user = call.core.directory.get(UserEntry, call.caller.name)
    if user is None:
        return Me(call.caller.name, "", "", is_admin=call.caller.admin)
    return Me(user.username, user.email, user.display_name, is_admin=user.is_admin)


@table.route("GET", "/auth/tokens", Access.USER, answer=TokenList)
async def list_tokens(call: Call) -> TokenList:
    """List the caller's API tokens; administrators see everybody's."""
    everybody = call.core.gate.manages(call.caller)
    return TokenList(
        [
            view_token(each)
            for each in call.core.directory.all(TokenEntry)
            if everybody or each.username == call.caller.name
        ]
    )


@table.route("POST", "/auth/tokens", Access.USER, body=NewToken, answer=CreatedToken, status=201)
async def create_token(call: Call) -> CreatedToken:
    """Make an API token; its secret is in this answer and never again."""
    body: NewToken = call.body
    _judge_change(call)
    username = body.username or call.caller.name
    if username != call.caller.name:
        call.core.gate.require_management(call.caller)
    if call.core.directory.get(UserEntry, username) is None:
        raise NotFoundError(f"no user {username!r}")
    if not (body.scopes and allowed_by(body.scopes) <= call.caller.allowed):
        raise DeniedError("a token cannot have scopes that its maker's credentials lack")
    if call.caller.repositories and not set(body.repositories) <= set(call.caller.repositories):
        raise DeniedError("a token cannot reach repositories that its maker's credentials do not")
    if body.expires_in_days is not None and not 0 < body.expires_in_days <= 3660:
        raise RejectedError("expires_in_days must be between 1 and 3660")
    repositories = body.repositories or list(call.caller.repositories)
    secret, entry = await call.core.accounts.create_token(
        username,
        body.name,
        body.scopes,
        actor=call.caller.name,
        repositories=repositories,
        expires_at=_end(body, call.caller),
    )
    view = view_token(entry)
    await call.note("token.create", entry.id)
    return CreatedToken(**msgspec.structs.asdict(view), token=secret)


def _end(body: NewToken, caller: Caller) -> float:
    """When a new token expires: never after the token that made it, or theft would last."""
    wanted = time.time() + body.expires_in_days * 86400 if body.expires_in_days else 0.0
    ends = [each for each in (wanted, caller.expires_at) if each]
    return min(ends, default=0.0)


def _judge_change(call: Call) -> None:
    """Let credentials that may only read change no token.  Raises DeniedError."""
    if "write" not in call.caller.allowed:
        raise DeniedError("these credentials may only read")


@table.route("DELETE", "/auth/tokens/{id}", Access.USER, status=204)
async def revoke_token(call: Call) -> None:
    """Revoke an API token, everywhere this is heard."""
    entry = call.core.directory.get(TokenEntry, call.params["id"])
    manages = call.core.gate.manages(call.caller)
    if entry is None or (entry.username != call.caller.name and not manages):
        raise NotFoundError("no such token")
    if not allowed_by(entry.scopes) <= call.caller.allowed:
        raise DeniedError("these credentials cannot revoke a token of wider scope")
    fact = call.core.directory.remove(TokenEntry, entry.id)
    await call.core.ledger.append([fact], actor=call.caller.name)
    await call.note("token.revoke", entry.id)
