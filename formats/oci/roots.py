"""Routes at the root of the host: the version check, tokens, the catalog.

Spec: distribution-spec 1.1 §Determining support; distribution token and OAuth2 specifications.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from formats.contract import Principal, Registry, Request, Response, Scope, json_response
from formats.oci.errors import API_VERSION
from formats.oci.listings import PAGE_MAX, next_link, page_asked
from store.errors import RejectedError, UnauthorizedError

SCOPE = re.compile(r"repository(?:\([^)]*\))?:(?P<name>[A-Za-z0-9][^:\s]*):(?P<actions>[\w,*]*)\Z")
CATALOG = "registry:catalog:*"
SCOPES_MAX = 100
RIGHTS = {
    "pull": (Scope.READ,),
    "push": (Scope.WRITE,),
    "delete": (Scope.DELETE,),
    "*": (Scope.READ, Scope.WRITE, Scope.DELETE),
}


async def check_version(request: Request, registry: Registry) -> Response:
    """Say that this is a registry.

    Anonymous callers are always challenged: docker reads the way to log in from this answer only,
    and asks for a token (an anonymous one, for public images) even where none is needed.
    Raises UnauthorizedError.
    """
    if request.principal.kind == "anonymous":
        raise UnauthorizedError("authentication required")
    return json_response({}, headers=(API_VERSION,))


async def get_token(request: Request, registry: Registry) -> Response:
    """Issue a token for the caller of a GET, who may be nobody."""
    return await _token(request.principal, request.query.get("scope", ()), registry)


async def post_token(request: Request, registry: Registry) -> Response:
    """Issue a token by the OAuth2 grants ``password`` and ``refresh_token``.

    Raises UnauthorizedError, RejectedError.
    """
    form = _form(request.document)
    grant, password = form.get("grant_type", [""])[0], form.get("password", [""])[0]
    user = form.get("username", [""])[0]
    if grant == "refresh_token":
        user, password = user or "token", form.get("refresh_token", [""])[0]
    elif grant != "password":
        raise RejectedError(f"grant type {grant[:99]!r} is not supported")
    principal = await registry.authenticate(user, password)
    scopes = [scope for text in form.get("scope", ()) for scope in text.split()]
    extra = {}
    if grant == "refresh_token":
        extra = {"refresh_token": password}
    elif form.get("access_type") == ["offline"]:
        extra = {"refresh_token": await _refresh_token(registry, user, password)}
    return await _token(principal, scopes, registry, extra)


async def _refresh_token(registry: Registry, user: str, password: str) -> str:
    """A token that stands for a password; who came with a token keeps it."""
    try:
        return await registry.accounts.login(user, password)
    except UnauthorizedError:
        return password


async def _token(
    principal: Principal,
    scopes: Iterable[str],
    registry: Registry,
    extra: Mapping[str, str] | None = None,
) -> Response:
    token, life = await registry.issue_token(principal, read_scopes(scopes))
    document = {"token": token, "access_token": token, "expires_in": life, **(extra or {})}
    return json_response(document, headers=(("cache-control", "no-store"),))


def read_scopes(scopes: Iterable[str]) -> Sequence[tuple[str, Sequence[str]]]:
    """Turn ``repository:KEY/IMAGE:pull,push`` into rights on repositories; skip what is foreign.

    ``registry:catalog:*`` reads them all.
    """
    access: dict[str, set[str]] = {}
    texts = [each for text in scopes for each in text.split()]
    for text in texts[:SCOPES_MAX]:
        if text == CATALOG:
            access.setdefault("*", set()).add(Scope.READ.value)
        found = SCOPE.match(text)
        if found is None:
            continue
        rights = access.setdefault(found["name"].partition("/")[0], set())
        for action in found["actions"].split(","):
            rights.update(scope.value for scope in RIGHTS.get(action, ()))
    return [(key, sorted(rights)) for key, rights in sorted(access.items())]


def _form(document: bytes) -> Mapping[str, Sequence[str]]:
    try:
        return parse_qs(document.decode("ascii"), max_num_fields=SCOPES_MAX)
    except ValueError as error:
        raise RejectedError("the form cannot be read") from error


async def catalog(request: Request, registry: Registry) -> Response:
    """List the images of every repository the caller may read, in byte order."""
    limit, last = page_asked(request), request.argument("last")
    want = PAGE_MAX if limit is None else limit
    key_asked, _, image_asked = last.partition("/")
    found: list[str] = []
    repositories = await registry.repositories("oci", request.principal)
    for each in sorted(repositories, key=lambda each: f"{each.key}/"):
        if each.key != key_asked and f"{each.key}/" <= last:
            continue
        after = image_asked if each.key == key_asked else ""
        page = await each.packages(after=after, limit=want + 1 - len(found))
        found += [f"{each.key}/{name}" for name in page]
        if len(found) > want:
            break
    shown = found[:want]
    path = f"{urlsplit(request.root_url).path.rstrip('/')}/v2/_catalog"
    headers = (API_VERSION, *next_link(path, shown, limit, more=len(found) > len(shown)))
    return json_response({"repositories": shown}, headers=headers)
