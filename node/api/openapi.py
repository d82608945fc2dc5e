"""The OpenAPI 3.1 document, derived from the endpoint table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from node.api.contract import PREFIX, Access, Endpoint

PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
ERROR = {"$ref": "#/components/schemas/ErrorBody"}


class ErrorBody(msgspec.Struct):
    """What every failed call answers."""

    code: str
    message: str


def document(endpoints: Iterable[Endpoint], version: str, server: str) -> dict[str, Any]:
    """Describe the API."""
    table = list(endpoints)
    models = {each for e in table for each in (e.body, e.answer) if each is not None}
    ordered = sorted(models, key=repr)
    schemas, components = msgspec.json.schema_components(
        [*ordered, ErrorBody], ref_template="#/components/schemas/{name}"
    )
    shapes = dict(zip([*map(repr, ordered), "error"], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in table:
        path = PREFIX + PARAMETER.sub(r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, shapes)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Atoll", "version": version, "license": {"name": "MIT"}},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(endpoint: Endpoint, shapes: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in PARAMETER.findall(endpoint.path)
    ] + [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in endpoint.parameters
    ]
    answer: dict[str, Any] = {"description": "Done"}
    if endpoint.answer is not None:
        answer["content"] = {"application/json": {"schema": shapes[repr(endpoint.answer)]}}
    operation: dict[str, Any] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "description": f"Open to {endpoint.access.value}.",
        "tags": [endpoint.tag],
        "parameters": parameters,
        "responses": {
            str(endpoint.status): answer,
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": ERROR}},
            },
        },
    }
    if endpoint.body is not None:
        schema = shapes[repr(endpoint.body)]
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    elif endpoint.streams:
        operation["requestBody"] = {
            "content": {"application/octet-stream": {"schema": {"type": "string"}}}
        }
    if endpoint.access is not Access.OPEN:
        operation["security"] = [{"bearer": []}, {"basic": []}]
    return operation
