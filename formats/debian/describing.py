"""What a control paragraph says of its package, for search.  Spec: Debian Policy §5.6.13."""

from __future__ import annotations

from formats.debian.control import field
from formats.describing import Describe, Description, json_object


def read(data: bytes) -> Description:
    """Read what the catalog keeps of a package's control file; its section is a keyword."""
    found = json_object(data).get("control")
    if not isinstance(found, dict):
        raise TypeError("not a paragraph")
    section = field(found, "Section")
    return Description.make(field(found, "Description"), section.split("/") if section else ())


DESCRIBE = Describe(("deb", "dsc"), read)
