"""What a manifest says of its package, for search.  Spec: package.json."""

from __future__ import annotations

from collections.abc import Mapping

from formats.describing import Describe, Description, json_object


def read(data: bytes) -> Description:
    """Read a version's manifest."""
    found = json_object(data)
    keywords = found.get("keywords")
    if isinstance(keywords, str):
        keywords = keywords.split(",")
    licence = found.get("license")
    if isinstance(licence, Mapping):  # as it was written long ago
        licence = licence.get("type")
    words = keywords if isinstance(keywords, list) else []
    return Description.make(found.get("description"), words, licence)


DESCRIBE = Describe(("manifest",), read, content=True)
