"""What every format owes, judged over ``formats.discover()``.

A format's own test module, ``tests/formats/test_<name>.py``, brings two names that these tests use:

- ``async def sample(repository: FakeRepository) -> None`` publishes a few packages, with more than
  one version or file each, through ``perform``;
- ``INDEXES`` lists the request targets (below the mount) of its index documents.
"""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

import formats
from cli.clients import settings_places
from formats.contract import BodyKind, Format, Response, Scope
from store import errors
from store.errors import RegistryError
from tests.formats.fake import FakeRepository, perform

ROOT = Path(__file__).parents[2]
FORMATS = formats.discover()
SHUFFLES = 4

each_format = pytest.mark.parametrize("fmt", FORMATS, ids=[each.name for each in FORMATS])


def error_samples() -> list[RegistryError]:
    """One error of every class of the tree."""
    found: list[RegistryError] = []
    for name in sorted(vars(errors)):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, RegistryError):
            arguments = ("a", "b") if kind is errors.DigestMismatchError else ("told <why>",)
            found.append(kind(*arguments))
    return found


def own_tests(fmt: Format) -> ModuleType:
    """The format's test module.  A format without one fails here."""
    return importlib.import_module(f"tests.formats.test_{fmt.name}")


def test_formats_are_found_and_do_not_clash() -> None:
    names = [fmt.name for fmt in FORMATS]
    keys = [key for fmt in FORMATS for key in fmt.keys]
    mounts = [mount for fmt in FORMATS for mount in fmt.mounts]
    for taken in (names, keys, mounts):
        assert taken
        assert len(taken) == len(set(taken))


@each_format
def test_every_route_is_well_formed(fmt: Format) -> None:
    seen = set()
    for route in fmt.routes:
        assert route.path.startswith("/")
        assert route.method == route.method.upper() != "HEAD"
        assert (route.method, route.path) not in seen, "the second of two equal routes is never met"
        seen.add((route.method, route.path))
        if route.method in {"PUT", "DELETE", "PATCH"}:
            assert route.scope is not Scope.READ, f"{route.path} writes under the right to read"
        if route.body.kind is BodyKind.DOCUMENT:
            assert route.body.max is not None
        if route.body.kind is BodyKind.DECODED:
            assert route.body.decoder is not None


@each_format
def test_the_docs_page_names_every_route_and_client(fmt: Format) -> None:
    page = (ROOT / "docs" / "formats" / f"{fmt.name}.md").read_text()
    rows = [(each.method, each.path) for each in fmt.routes]
    rows += [(each.method, each.path) for each in fmt.root_routes]
    for method, path in rows:
        assert f"{method} {path}" in page, "an undocumented route"
    for client in fmt.client_settings:
        assert client in page


@each_format
def test_client_settings_hold_only_known_places(fmt: Format) -> None:
    assert fmt.client_settings
    places = settings_places("https://host.test:1/mount/key", "key", "alice", "secret")
    for client, text in fmt.client_settings.items():
        filled = text.format_map(places)
        assert "host.test:1" in filled, client
        assert "insecure" not in filled.lower(), client
        assert "tls-verify" not in filled, client


@each_format
@pytest.mark.parametrize("error", error_samples(), ids=lambda each: type(each).__name__)
def test_every_error_has_a_native_body(fmt: Format, error: RegistryError) -> None:
    response = fmt.error_body(error)
    assert isinstance(response, Response)
    assert 400 <= response.status <= 599
    assert isinstance(response.content, bytes)
    assert response.content
    assert "html" not in response.media_type
    if "json" in response.media_type:
        json.loads(response.content)


@each_format
async def test_index_documents_do_not_depend_on_the_order_of_rows(fmt: Format) -> None:
    tests = own_tests(fmt)
    documents: dict[str, bytes] = {}
    for seed in range(SHUFFLES):
        repository = FakeRepository()
        await tests.sample(repository)
        repository.shuffle = random.Random(seed) if seed else None
        for target in tests.INDEXES:
            answer = await perform(fmt, "GET", target, repository)
            assert answer.status == 200, f"{target}: {answer.body!r}"
            assert answer.body
            assert answer.body == documents.setdefault(target, answer.body), target


@each_format
async def test_reading_twice_renders_once(fmt: Format) -> None:
    tests = own_tests(fmt)
    repository = FakeRepository()
    await tests.sample(repository)
    for target in tests.INDEXES:
        await perform(fmt, "GET", target, repository)
    renders = repository.renders
    for target in tests.INDEXES:
        await perform(fmt, "GET", target, repository)
    assert repository.renders == renders
