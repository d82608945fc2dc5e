"""From a raw request path to a format, a repository key and a route.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from formats.contract import Format, RootRoute, Route
from store.errors import MethodNotAllowedError, NotFoundError, PathInvalidError

COMPONENT_MAX = 255  # bytes of a decoded path component
TEMPLATE = re.compile(r"\{(\w+)(\*?)\}")
# Control characters, backslashes, what XML cannot hold, and a second layer of encoding.
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffe\uffff]|%[0-9A-Fa-f]{2}")
# What is decoded already: no dot begins a component, and none is too long.
SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~+-]{0,200}(?:/[A-Za-z0-9_-][A-Za-z0-9._~+-]{0,200})*")
SLASHES = re.compile(r"/{2,}")
AnyRoute = TypeVar("AnyRoute", Route, RootRoute)


@dataclass(frozen=True, slots=True)
class Compiled(Generic[AnyRoute]):
    """A route and the expression its template became."""

    route: AnyRoute
    pattern: re.Pattern[str]
    stars: frozenset[str]


@dataclass(frozen=True, slots=True)
class Match(Generic[AnyRoute]):
    """The route that answers, and its decoded parameters."""

    route: AnyRoute
    params: Mapping[str, str]


def compile_template(path: str) -> tuple[re.Pattern[str], frozenset[str]]:
    """Turn a template into an expression over raw segments; a trailing slash never matters."""
    stars, parts, at = set(), [], 0
    for found in TEMPLATE.finditer(path):
        parts.append(re.escape(path[at : found.start()]))
        name, star = found.groups()
        if star:
            stars.add(name)
        parts.append(f"(?P<{name}>{'[^/].*?' if star else '[^/]+?'})")
        at = found.end()
    tail = path[at:].removesuffix("/")
    parts.append(re.escape(tail))
    return re.compile("".join(parts) + "/?", re.DOTALL), frozenset(stars)


def decode(name: str, raw: str, *, star: bool, encoded_slash: bool) -> str:
    """Decode one parameter, once.  Raises PathInvalidError (formats.md rule 18)."""
    if SAFE.fullmatch(raw) and (star or "/" not in raw):
        return raw
    parts = raw.split("/") if star else [raw]
    decoded = []
    for part in parts:
        try:
            text = unquote_to_bytes(part).decode("utf-8")
        except UnicodeDecodeError:
            raise PathInvalidError(f"{name}: not UTF-8") from None
        inner = text.split("/")
        if len(inner) > 1 and not encoded_slash:
            raise PathInvalidError(f"{name}: an encoded slash is not allowed here")
        if any(each in {".", ".."} for each in inner) or FORBIDDEN.search(text):
            raise PathInvalidError(f"{name}: not a valid path component")
        if any(len(each.encode()) > COMPONENT_MAX for each in inner):
            raise PathInvalidError(f"{name}: a component is longer than {COMPONENT_MAX} bytes")
        decoded.append(text)
    return "/".join(decoded)


def single_slashes(path: str) -> str:
    """Make one slash of each run of them."""
    return SLASHES.sub("/", path) if "//" in path else path


class RouteTable(Generic[AnyRoute]):
    """An ordered set of routes; the first match wins."""

    def __init__(self, routes: Iterable[AnyRoute]) -> None:
        self._compiled: list[Compiled[AnyRoute]] = [
            Compiled(route, *compile_template(route.path)) for route in routes
        ]

    def match(self, method: str, path: str) -> Match[AnyRoute]:
        """Find the route.  Raises NotFoundError, MethodNotAllowedError, PathInvalidError.

        HEAD is answered by the GET route.
        """
        wanted = "GET" if method == "HEAD" else method
        clean = single_slashes(path) or "/"
        others = set()
        for each in self._compiled:
            found = each.pattern.fullmatch(clean)
            if found is None:
                continue
            if each.route.method != wanted:
                others.add(each.route.method)
                continue
            slash = isinstance(each.route, Route) and each.route.encoded_slash
            params = {
                name: decode(name, raw, star=name in each.stars, encoded_slash=slash)
                for name, raw in found.groupdict().items()
            }
            return Match(each.route, params)
        if others:
            raise MethodNotAllowedError(
                f"{method} is not allowed here ({', '.join(sorted(others))})"
            )
        raise NotFoundError("no such route")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A format under one of its mounts."""

    format: Format
    mount: str
    routes: RouteTable[Route]
    roots: RouteTable[RootRoute]


Place = tuple[Mounted, str]  # a format's mount, and the path below it, from its slash on


class Router:
    """Which format a raw path belongs to."""

    def __init__(self, formats: Iterable[Format]) -> None:
        self.mounted: dict[str, Mounted] = {}
        self._roots: list[tuple[Mounted, Compiled[RootRoute]]] = []
        for each in formats:
            routes, roots = RouteTable(each.routes), RouteTable(each.root_routes)
            for mount in each.mounts:
                if mount in self.mounted:
                    raise ValueError(f"{each.name} and another format both mount {mount}")
                self.mounted[mount] = Mounted(each, mount, routes, roots)

    def find(self, path: str) -> Place | None:
        """The mount a raw path lies below, and the rest of the path."""
        first = path.find("/", 1)
        second = path.find("/", first + 1) if first > 0 else -1
        for end in (second, first):
            end = end if end > 0 else len(path)
            mounted = self.mounted.get(path[:end])
            if mounted is not None:
                return mounted, path[end:] or "/"
        return None


def split_repository(rest: str) -> tuple[str, str]:
    """Split ``/main/simple/x`` into ``main`` and ``/simple/x``.  Raises NotFoundError."""
    clean = single_slashes(rest)
    key, slash, below = clean.lstrip("/").partition("/")
    if not key:
        raise NotFoundError("no repository named")
    return decode("repository", key, star=False, encoded_slash=False), slash + below or "/"
