"""What a manifest's annotations say of an image, for search.  Spec: image-spec, annotations."""

from __future__ import annotations

from formats.describing import Describe, Description, json_object

PREFIX = "org.opencontainers.image."


def read(data: bytes) -> Description:
    """Read a manifest."""
    found = json_object(data).get("annotations")
    if not isinstance(found, dict):
        return Description()
    summary = found.get(f"{PREFIX}description") or found.get(f"{PREFIX}title")
    return Description.make(summary, (), found.get(f"{PREFIX}licenses"))


DESCRIBE = Describe(("manifest",), read, content=True)
