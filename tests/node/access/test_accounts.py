"""Credentials of every kind: what they open, when they end, and what they never open."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from node.access import accounts as module
from node.access.accounts import ASKING, AUDIENCE, Accounts
from node.access.gate import EVERY
from node.directory import TokenEntry, UserEntry
from store.errors import TooManyRequestsError, UnauthorizedError
from tests.node.world import PASSWORD, World, world

PULL = "/v2/token?scope=repository:docker/x:pull"
IMAGE = "/v2/docker/x/tags/list"


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def make_user(node: World, name: str, password: str | None = "password of hers") -> None:
    made = await node.api("POST", "/users", {"username": name, "password": password})
    assert made.status == 201, made.body


async def login(node: World, name: str = "admin", password: str = PASSWORD) -> Any:
    body = f'{{"username": "{name}", "password": "{password}"}}'.encode()
    return await node.ask("POST", "/api/v1/auth/login", body)


async def test_each_kind_of_credential_names_its_user(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        found = node.core.accounts
        session = (await login(node)).json["access_token"]
        for headers in (
            basic("admin", PASSWORD),
            basic("anybody", node.token),
            basic("", node.token),
            basic("anybody", session),
            bearer(session),
            bearer(node.token),
            {"authorization": f"token {node.token}"},
            {"authorization": node.token},
            {"x-api-key": node.token},
            {"x-nuget-apikey": node.token},
        ):
            caller = await found.caller(headers, address="", native=True)
            assert (caller.name, caller.admin) == ("admin", True), headers
        assert (await found.caller({}, address="", native=True)).name == ""


WRONG: list[dict[str, str]] = [
    {"authorization": "Basic !!!"},
    {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
    {"authorization": "Basic"},
    {"authorization": "Bearer"},
    {"authorization": "Bearer atoll_unknown"},
    {"authorization": "Bearer a.b.c"},
    {"authorization": "Digest username=x"},
    {"x-api-key": "nonsense"},
    basic("admin", "wrong"),
    basic("nobody", "wrong"),
    basic("admin", "two.dots.inside"),
]


async def test_what_does_not_hold_is_refused_and_never_taken_for_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for headers in WRONG:
            with pytest.raises(UnauthorizedError):
                await node.core.accounts.caller(headers, address="", native=True)


async def test_tokens_are_no_passwords_for_the_management_api(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        with pytest.raises(UnauthorizedError):
            await node.core.accounts.caller(basic("admin", node.token), address="", native=False)


async def test_a_token_ends_when_it_expires_is_revoked_or_its_user_is_disabled(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as node:
        found = node.core.accounts
        await make_user(node, "ann")

        async def works(token: str) -> bool:
            try:
                await found.caller(bearer(token), address="", native=True)
            except UnauthorizedError:
                return False
            return True

        old, _ = await found.create_token(
            "ann", "old", ["read"], actor="t", expires_at=time.time() - 1
        )
        live, _ = await found.create_token(
            "ann", "live", ["read"], actor="t", expires_at=time.time() + 99
        )
        gone, entry = await found.create_token("ann", "gone", ["read"], actor="t")
        assert (await works(old), await works(live), await works(gone)) == (False, True, True)
        assert (await node.api("DELETE", f"/auth/tokens/{entry.id}")).status == 204
        assert not await works(gone)
        session = (await login(node, "ann", "password of hers")).json["access_token"]
        assert await works(session)
        await node.api("PATCH", "/users/ann", {"is_active": False})
        assert not await works(live)
        assert not await works(session)
        assert (await login(node, "ann", "password of hers")).status == 401


async def test_long_expired_tokens_are_removed_everywhere(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        found = node.core.accounts
        await found.create_token("admin", "x", ["read"], actor="t", expires_at=time.time() - 9)
        await found.create_token("admin", "y", ["read"], actor="t", expires_at=1.0)
        assert await found.expire() == 1
        assert await found.expire() == 0
        names = {each.name for each in node.core.directory.all(TokenEntry)}
        assert names == {"t", "x"}


async def test_a_new_password_ends_sessions_at_once_and_refresh_tokens_too(tmp_path: Path) -> None:
    """Within the very second, too: the token names the password change that it knows of."""
    async with world(tmp_path) as node:
        await make_user(node, "ann")
        before = (await login(node, "ann", "password of hers")).json
        changed = await node.api("POST", "/users/ann/password", {"new_password": "another one"})
        assert changed.status == 204
        after = (await login(node, "ann", "another one")).json
        me = "/api/v1/auth/me"
        assert (await node.ask("GET", me, headers=bearer(before["access_token"]))).status == 401
        assert (await node.ask("GET", me, headers=bearer(after["access_token"]))).status == 200
        body = f'{{"refresh_token": "{before["refresh_token"]}"}}'.encode()
        assert (await node.ask("POST", "/api/v1/auth/refresh", body)).status == 401
        assert (await login(node, "ann", "password of hers")).status == 401


async def test_each_token_is_for_one_thing(tmp_path: Path) -> None:
    """A refresh token opens nothing, an API token refreshes nothing, an OCI token stays with OCI."""
    async with world(tmp_path) as node:
        made = (await login(node)).json
        me, closed = "/api/v1/auth/me", "/general/closed/x"
        await node.api("POST", "/repositories", {"key": "closed", "format": "generic"})
        refresh, access = made["refresh_token"], made["access_token"]
        assert (await node.ask("GET", me, headers=bearer(refresh))).status == 401
        assert (await node.ask("GET", closed, headers=bearer(refresh))).status == 401
        assert (await node.ask("GET", closed, headers=bearer(access))).status == 404
        for wrong in (access, node.token):
            body = f'{{"refresh_token": "{wrong}"}}'.encode()
            assert (await node.ask("POST", "/api/v1/auth/refresh", body)).status == 401
        body = f'{{"refresh_token": "{refresh}"}}'.encode()
        assert (await node.ask("POST", "/api/v1/auth/refresh", body)).status == 200
        oci = await node.ask("GET", "/v2/token?scope=repository:docker/x:pull", password=node.token)
        assert (await node.ask("GET", me, headers=bearer(oci.json["token"]))).status == 401


async def test_a_narrow_bearer_token_cannot_ask_for_a_wide_one(tmp_path: Path) -> None:
    """Refresh and OCI tokens asked the token route for every repository, and got it."""
    async with world(tmp_path) as node:
        refresh = (await login(node)).json["refresh_token"]
        narrow = await node.ask(
            "GET", "/v2/token?scope=repository:docker/x:pull", password=node.token
        )
        whole = "/v2/token?scope=registry:catalog:*"
        for token in (refresh, narrow.json["token"]):
            answer = await node.ask("GET", whole, headers=bearer(token))
            claims = jwt.decode(answer.json["token"], options={"verify_signature": False})
            assert claims["access"] == []
        answer = await node.ask("GET", whole, password=node.token)
        claims = jwt.decode(answer.json["token"], options={"verify_signature": False})
        assert claims["access"] == [[EVERY, ["read"]]]


class Members:
    """Keys of this node and of others."""

    def __init__(self) -> None:
        self.keys = {name: Ed25519PrivateKey.generate() for name in ("here", "there")}
        self.node = "here"

    def private(self) -> Ed25519PrivateKey:
        return self.keys[self.node]

    def public(self, node: str) -> Ed25519PublicKey | None:
        return self.keys[node].public_key() if node in self.keys else None


async def test_tokens_of_other_members_hold_and_of_strangers_do_not(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        directory, write = node.core.directory, node.core.ledger.append
        members = Members()
        here = Accounts(directory, write, members)
        caller = await here.by_password("admin", PASSWORD, "")
        members.node = "there"
        token, life = Accounts(directory, write, members, token_minutes=5).bearer(caller)
        members.node = "here"
        assert life == 300
        assert (await here.caller(bearer(token), address="", native=True)).name == "admin"
        del members.keys["there"]
        with pytest.raises(UnauthorizedError):
            await here.caller(bearer(token), address="", native=True)


NONSENSE: list[dict[str, Any]] = [
    {"exp": 1},
    {"aud": "other"},
    {"iat": "soon"},
    {"sub": 5},
    {"allowed": "read"},
    {"allowed": [1]},
    {"access": {"a": 1}},
    {"access": [["a"]]},
    {"password": "x"},
    {"password": 1.0},
    {"sub": "nobody"},
    {"aud": None},
]


async def test_signed_nonsense_is_refused_and_breaks_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        user = node.core.directory.get(UserEntry, "admin")
        assert user is not None
        members = Members()
        found = Accounts(node.core.directory, node.core.ledger.append, members)
        now = int(time.time())
        good: dict[str, Any] = {
            "sub": "admin",
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 99,
            "password": user.password_changed_at,
        }

        def signed(claims: dict[str, Any]) -> dict[str, str]:
            return bearer(jwt.encode(claims, members.private(), "EdDSA", headers={"kid": "here"}))

        assert (await found.caller(signed(good), address="", native=True)).name == "admin"
        for change in NONSENSE:
            claims = {k: v for k, v in {**good, **change}.items() if v is not None}
            with pytest.raises(UnauthorizedError):
                await found.caller(signed(claims), address="", native=True)
        forged = jwt.encode(good, "secret" * 8, "HS256", headers={"kid": "here"})
        with pytest.raises(UnauthorizedError):
            await found.caller(bearer(forged), address="", native=True)


async def test_guessing_is_limited_and_right_answers_are_not(tmp_path: Path) -> None:
    """Once the limit is reached the right password is no answer either, from that address."""
    async with world(tmp_path) as node:
        found = Accounts(node.core.directory, node.core.ledger.append, Members(), login_attempts=3)
        for _ in range(3):
            with pytest.raises(UnauthorizedError):
                await found.by_password("admin", "guess", "10.0.0.1")
        for guess in ("guess", PASSWORD):
            with pytest.raises(TooManyRequestsError):
                await found.by_password("admin", guess, "10.0.0.1")
        assert (await found.by_password("admin", PASSWORD, "10.0.0.2")).name == "admin"
        assert len(found._turns) == 0


async def test_a_right_password_clears_the_count(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        found = Accounts(node.core.directory, node.core.ledger.append, Members(), login_attempts=2)
        for _ in range(3):
            with pytest.raises(UnauthorizedError):
                await found.by_password("admin", "typo", "")
            found.passwords._remembered.clear()
            await found.by_password("admin", PASSWORD, "")


async def test_log_in_routes_of_formats_count_by_the_address_that_asks(tmp_path: Path) -> None:
    """One counter for everybody let anybody lock anybody out."""
    async with world(tmp_path) as node:
        found = Accounts(node.core.directory, node.core.ledger.append, Members(), login_attempts=1)
        ASKING.set("10.0.0.1")
        with pytest.raises(UnauthorizedError):
            await found.login("admin", "guess")
        with pytest.raises(TooManyRequestsError):
            await found.login("admin", "guess")
        ASKING.set("10.0.0.2")
        assert (await found.login("admin", PASSWORD)).startswith("atoll_")


async def test_the_address_is_the_clients(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        body = b'{"name": "admin", "password": "guess"}'
        path = "/npm/npm/-/user/org.couchdb.user:admin"
        tries = [await node.ask("PUT", path, body, address="10.0.0.7") for _ in range(11)]
        assert [each.status for each in tries] == [401] * 10 + [429]
        assert int(tries[-1].headers["retry-after"]) > 0
        body = f'{{"name": "admin", "password": "{PASSWORD}"}}'.encode()
        assert (await node.ask("PUT", path, body, address="10.0.0.8")).status == 201


async def test_logging_in_with_a_token_gives_that_token_and_not_a_wider_one(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as node:
        found = node.core.accounts
        narrow, _ = await found.create_token("admin", "n", ["read"], actor="t")
        assert await found.login("admin", narrow) == narrow
        with pytest.raises(UnauthorizedError):
            await found.login("admin", "atoll_nonsense")
        await found.logout(narrow)
        with pytest.raises(UnauthorizedError):
            await found.login("admin", narrow)
        await found.logout("unknown")


async def test_a_login_ends_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.core.accounts.login("admin", PASSWORD)
        made = [t for t in node.core.directory.all(TokenEntry) if t.name == "login"]
        assert [t.expires_at - t.created_at for t in made] == [
            pytest.approx(module.LOGIN_LIFE, abs=5)
        ]


async def test_a_user_without_password_has_tokens_only(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await make_user(node, "robot", None)
        for guess in ("", "None", "null"):
            with pytest.raises(UnauthorizedError):
                await node.core.accounts.by_password("robot", guess, "")
        token, _ = await node.core.accounts.create_token("robot", "t", ["read"], actor="t")
        caller = await node.core.accounts.caller(bearer(token), address="", native=True)
        assert (caller.name, caller.admin) == ("robot", False)


async def test_strange_passwords_are_wrong_and_nothing_worse(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for text in ('"\\ud800"', '"\\u0000"', '"' + "x" * 5000 + '"'):
            body = f'{{"username": "admin", "password": {text}}}'.encode()
            answer = await node.ask("POST", "/api/v1/auth/login", body)
            assert answer.status in {400, 401}, answer.body


async def test_a_registry_token_does_not_renew_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as node:
        first = (await node.ask("GET", PULL, headers=bearer(node.token))).json
        assert first["expires_in"] == 1800
        later = time.time() + 1810  # within the leeway for clocks that differ
        monkeypatch.setattr("node.access.accounts.time.time", lambda: later)
        second = await node.ask("GET", PULL, headers=bearer(first["token"]))
        assert second.status in {200, 401}
        assert second.json.get("expires_in", 0) == 0


async def test_a_registry_token_ends_with_the_token_it_was_made_for(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        found = node.core.accounts
        end = time.time() + 100
        secret, _ = await found.create_token("admin", "n", ["read"], actor="t", expires_at=end)
        minted = (await node.ask("GET", PULL, headers=bearer(secret))).json
        assert 0 < minted["expires_in"] <= 100
        seen = await node.ask("GET", IMAGE, headers=bearer(minted["token"]))
        assert seen.status == 404  # an unknown image, not a refused caller
        await node.core.accounts.logout(secret)
        refused = await node.ask("GET", IMAGE, headers=bearer(minted["token"]))
        assert refused.status == 401
