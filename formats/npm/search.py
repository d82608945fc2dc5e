"""Searching by name, and answering audits.  Spec: npm registry "Search", "Audit"."""

from __future__ import annotations

import msgspec

from formats.contract import Repository, Request, Response, json_response
from formats.npm.catalog import load_package
from formats.npm.packument import Package, iso_time, promoted
from store.errors import PackageUnknownError, RejectedError

PAGE = 1000  # names read at once
MATCHES_MAX = 10_000  # names that one search finds
TEXT_MAX = 500  # characters of a query that are looked at
WORDS_MAX = 10  # of its words
SIZE_MAX = 250
SCORE = {"final": 1.0, "detail": {"quality": 1.0, "popularity": 1.0, "maintenance": 1.0}}


async def search(request: Request, repository: Repository) -> Response:
    """Find packages whose name holds every word of ``text``; ``scope:`` narrows to one scope.

    Other qualifiers are not looked at.  Details are read only for the page that is shown.
    """
    size = min(_number(request, "size", 20), SIZE_MAX)
    start = _number(request, "from", 0)
    key = f"search:{request.base_url}:{size}:{start}:{request.argument('text').lower()[:TEXT_MAX]}"

    async def render() -> bytes:
        names = await _matching(repository, request.argument("text"))
        found = [await _summary(repository, each) for each in names[start : start + size]]
        objects = [{"package": each, "score": SCORE, "searchScore": 1.0} for each in found if each]
        document = {
            "objects": objects,
            "total": len(names),
            "time": iso_time(repository.modified),
        }
        return msgspec.json.encode(document)

    rendered = await repository.cached(key, render)
    return Response(content=rendered.data, media_type="application/json", etag=rendered.etag)


def _number(request: Request, name: str, default: int) -> int:
    text = request.argument(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RejectedError(f"{name} must be a number")
    return int(text)


async def _matching(repository: Repository, text: str) -> list[str]:
    """Names that fit, in byte order; at most MATCHES_MAX."""
    words = text.lower()[:TEXT_MAX].split()
    scopes = {f"@{w.removeprefix('scope:')}/" for w in words if w.startswith("scope:")}
    holding = [word for word in words if ":" not in word][:WORDS_MAX]
    found: list[str] = []
    for prefix in sorted(scopes, key=str.encode) or [""]:
        after = ""
        while len(found) < MATCHES_MAX and (
            page := await repository.packages(
                prefix=prefix, after=after, limit=PAGE, holding=holding
            )
        ):
            found += page
            after = page[-1]
    return found[:MATCHES_MAX]


async def _summary(repository: Repository, name: str) -> dict[str, object] | None:
    """A package's line, or None where only its tags are left."""
    try:
        return summary(await load_package(repository, name, full=True))
    except PackageUnknownError:
        return None


def summary(package: Package) -> dict[str, object]:
    """What a search shows of a package."""
    latest = package.tags["latest"]
    published = next(each.published for each in package.releases if each.version == latest)
    told = promoted(package)
    people = package.maintainers or bytes(told.get("maintainers", b"[]"))
    maintainers = [
        {"username": str(each.get("name", "")), "email": str(each.get("email", ""))}
        for each in msgspec.json.decode(people)
        if isinstance(each, dict)
    ]
    scope = package.name.partition("/")[0].removeprefix("@") if "/" in package.name else ""
    shown: dict[str, object] = {
        "name": package.name,
        "scope": scope or "unscoped",
        "version": latest,
        "date": iso_time(published),
        "links": {},
        "maintainers": maintainers,
    }
    if maintainers:
        shown["publisher"] = maintainers[0]
    return shown | {k: told[k] for k in ("description", "keywords", "author") if k in told}


async def bulk_advisories(request: Request, repository: Repository) -> Response:
    """No advisories are known here; an error would make clients fail their install."""
    return json_response({})


async def quick_audit(request: Request, repository: Repository) -> Response:
    """The older audit: an empty report."""
    levels = {"info": 0, "low": 0, "moderate": 0, "high": 0, "critical": 0}
    counts = {
        "vulnerabilities": levels,
        "dependencies": 0,
        "devDependencies": 0,
        "optionalDependencies": 0,
        "totalDependencies": 0,
    }
    report = {"actions": [], "advisories": {}, "muted": [], "metadata": counts}
    return json_response(report)
