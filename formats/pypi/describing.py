"""What core metadata says of a project, for search.  Spec: core metadata 2.4."""

from __future__ import annotations

import re

from formats.describing import Describe, Description

CLASSIFIER = "License :: "
SEPARATOR = re.compile(r"[,;]|\s+")


def read(data: bytes) -> Description:
    """Read a distribution's METADATA."""
    from email.parser import BytesHeaderParser  # not before it is needed

    found = BytesHeaderParser().parsebytes(data)
    keywords = str(found.get("Keywords", ""))
    words = keywords.split(",") if "," in keywords else SEPARATOR.split(keywords)
    licence = str(found.get("License-Expression", "") or "")
    classifiers = [str(each) for each in found.get_all("Classifier", [])]
    named = [c.rpartition(" :: ")[2] for c in classifiers if c.startswith(CLASSIFIER)]
    text = str(found.get("License", "") or "")
    if not licence:  # the free text is often the whole licence
        licence = text if "\n" not in text and 0 < len(text) <= 60 else next(iter(named), "")
    return Description.make(str(found.get("Summary", "") or ""), words, licence)


DESCRIBE = Describe(("metadata",), read, content=True)
