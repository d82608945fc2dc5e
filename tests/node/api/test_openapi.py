"""The OpenAPI document: complete, and every reference leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node.api.app import ENDPOINTS
from node.api.contract import Access
from node.api.openapi import document
from tests.node.world import world

DOCUMENT = document(ENDPOINTS, "1.2.3", "https://node.test")


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def test_every_endpoint_is_listed_once_and_no_other() -> None:
    listed = {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    table = [(e.method, re.sub(r"\{(\w+):path\}", r"{\1}", e.path)) for e in ENDPOINTS]
    assert len(table) == len(set(table)), "two endpoints at one place"
    assert listed == set(table)


def test_references_lead_to_schemas_and_no_schema_is_left_over() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    used = {each["$ref"] for each in walk(DOCUMENT) if "$ref" in each}
    assert used == {f"#/components/schemas/{name}" for name in schemas}


def test_operations_say_who_may_call_them_and_what_they_take() -> None:
    names = [op["operationId"] for path in DOCUMENT["paths"].values() for op in path.values()]
    assert len(names) == len(set(names))
    for endpoint in ENDPOINTS:
        path = "/api/v1" + re.sub(r"\{(\w+):path\}", r"{\1}", endpoint.path)
        operation = DOCUMENT["paths"][path][endpoint.method.lower()]
        assert operation["summary"], endpoint.handler.__name__
        assert ("security" in operation) is (endpoint.access is not Access.OPEN)
        assert ("requestBody" in operation) is (endpoint.body is not None or endpoint.streams)
        stated = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert stated == set(re.findall(r"\{(\w+)\}", path))
        error = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert error["$ref"].endswith("/ErrorBody")


async def test_anybody_may_fetch_it(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        answer = await node.ask("GET", "/api/v1/openapi.json")
        assert answer.status == 200
        assert answer.json["openapi"] == "3.1.0"
        assert answer.json["servers"] == [{"url": "http://node.test"}]
