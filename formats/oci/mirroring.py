"""What a list of images wants of a registry: manifests, and all that they name."""

from __future__ import annotations

from collections.abc import Sequence

from formats.oci.documents import read_manifest
from formats.oci.upstream import ACCEPT
from formats.remote import Kept, Wish
from store.errors import ManifestInvalidError


def wishes(name: str, text: str) -> Sequence[Wish]:
    """One image a line: ``name``, ``name:tag`` or ``name@digest``."""
    found = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        image, at, reference = line.partition("@")
        if not at:
            head, colon, tag = line.rpartition(":")
            image, reference = (head, tag) if colon and "/" not in tag else (line, "latest")
        found.append(Wish(f"/{image.strip('/')}/manifests/{reference}", ACCEPT))
    return found


def follow(wish: Wish, kept: Kept) -> Sequence[Wish]:
    """A manifest's children, config and layers."""
    image, manifests, _ = wish.path.rpartition("/manifests/")
    if not manifests:
        return ()
    try:
        document = read_manifest(kept.data)
    except ManifestInvalidError:
        return ()
    found = [Wish(f"{image}/manifests/{each.digest}", ACCEPT) for each in document.children]
    blobs = [*document.blobs, *([document.config] if document.config else [])]
    found += [Wish(f"{image}/blobs/{each.digest}") for each in blobs if not each.external]
    return found
