"""What a POM says of its artifact, for search.  Spec: Maven POM reference."""

from __future__ import annotations

from formats.describing import Describe, Description, json_object


def read(data: bytes) -> Description:
    """Read what the catalog keeps of a POM."""
    found = json_object(data)
    licences = found.get("licenses")
    named = [each.get("name") for each in licences] if isinstance(licences, list) else []
    return Description.make(
        found.get("description") or found.get("name"), (), named[0] if named else ""
    )


DESCRIBE = Describe(("pom",), read)
