"""Logging in, and who one is.  Spec: npm-profile's legacy (CouchDB) log-in."""

from __future__ import annotations

import hashlib
import re

import msgspec

from formats.contract import Repository, Request, Response, json_response
from formats.npm.documents import MALFORMED
from store.errors import NotFoundError, RejectedError, UnauthorizedError

PREFIX = "org.couchdb.user:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}\Z")


class Credentials(msgspec.Struct):
    """The body of a log-in."""

    name: str
    password: str


class TokenWish(msgspec.Struct):
    """The body of ``npm token create``."""

    password: str
    readonly: bool = False
    cidr_whitelist: list[str] | None = None


def user_name(request: Request) -> str:
    """The caller.  Raises UnauthorizedError for nobody."""
    if not request.principal.name:
        raise UnauthorizedError("log in first")
    return request.principal.name


async def login(request: Request, repository: Repository) -> Response:
    """Mint a token for a user's password (``npm login --auth-type=legacy``, ``npm adduser``)."""
    user = request.params["user"]
    try:
        body = msgspec.json.decode(request.document, type=Credentials)
    except MALFORMED as error:
        raise RejectedError(f"the body is malformed: {error}") from error
    if user != f"{PREFIX}{body.name}":
        raise RejectedError("the body is of another user than the URL")
    token = await repository.accounts.login(body.name, body.password)
    document = {"ok": True, "id": user, "rev": "1-0", "token": token}
    return json_response(document, status=201)


async def user(request: Request, repository: Repository) -> Response:
    """A user's record, for ``npm owner``: owners are names without rights, so any name will do."""
    user_name(request)
    identity = request.params["user"]
    name = identity.removeprefix(PREFIX)
    if name == identity or not NAME.match(name):
        raise NotFoundError("no such user")
    return json_response({"_id": identity, "name": name, "email": ""})


async def logout(request: Request, repository: Repository) -> Response:
    """Revoke the token in the path."""
    await repository.accounts.logout(request.params["token"])
    return json_response({"ok": True})


async def web_login(request: Request, repository: Repository) -> Response:
    """Refuse the browser log-in in the way that makes clients ask for name and password."""
    raise NotFoundError("web log-in is not offered here: use npm login --auth-type=legacy")


async def create_token(request: Request, repository: Repository) -> Response:
    """Mint another token for the caller.  Narrower ones are made by the management API."""
    name = user_name(request)
    try:
        wish = msgspec.json.decode(request.document, type=TokenWish)
    except MALFORMED as error:
        raise RejectedError(f"the body is malformed: {error}") from error
    if wish.readonly or wish.cidr_whitelist:
        raise RejectedError("make read-only and address-bound tokens by the management API")
    token = await repository.accounts.login(name, wish.password)
    key = hashlib.sha256(token.encode()).hexdigest()
    document = {"token": token, "key": key, "readonly": False, "cidr_whitelist": None}
    return json_response(document)


async def revoke_token(request: Request, repository: Repository) -> Response:
    """Revoke a token that the caller names in full."""
    user_name(request)
    await repository.accounts.logout(request.params["key"])
    return Response(204)


async def whoami(request: Request, repository: Repository) -> Response:
    """The caller's name.  Raises UnauthorizedError."""
    return json_response({"username": user_name(request)})


async def profile(request: Request, repository: Repository) -> Response:
    """The caller's profile, as far as there is one."""
    name = user_name(request)
    return json_response({"name": name, "email": "", "email_verified": False, "tfa": None})


async def ping(request: Request, repository: Repository) -> Response:
    """Say that the registry is here."""
    return json_response({})


async def keys(request: Request, repository: Repository) -> Response:
    """Keys of registry signatures: this registry makes none, and passes on what publishers sign."""
    return json_response({"keys": []})
