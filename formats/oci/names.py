"""Names of images, tags and blobs, and the catalog coordinates they become.

Spec: distribution-spec 1.1 §Pulling manifests (name and reference patterns).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from formats.contract import Request
from store.digest import Digest
from store.errors import NameInvalidError

NAME_MAX = 255  # characters of a repository key, a slash and an image name together
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*\Z")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\Z")


def image_name(request: Request) -> str:
    """The image that a path names.  Raises NameInvalidError."""
    name = request.params["image"]
    if len(name) > NAME_MAX or not IMAGE.match(name):
        raise NameInvalidError(f"not an image name: {name[:NAME_MAX]!r}")
    return name


def tag_name(text: str) -> str:
    """A tag.  Raises NameInvalidError."""
    if not TAG.match(text):
        raise NameInvalidError(f"not a tag: {text[:200]!r}")
    return text


def is_digest(reference: str) -> bool:
    """Tell a digest from a tag: only digests hold a colon."""
    return ":" in reference


def manifest_path(image: str, digest: object) -> str:
    """The coordinate of a manifest.  Images stay apart, though equal bytes are one blob."""
    return f"{image}/manifests/{digest}"


def blob_path(image: str, digest: Digest) -> str:
    """The coordinate of a config or layer within an image."""
    return f"{image}/blobs/{digest}"


def referrer_path(image: str, subject: object, digest: object) -> str:
    """The coordinate under which a manifest is found from its subject."""
    return f"{image}/referrers/{subject}/{digest}"


def mount_path(request: Request) -> str:
    """The path of the repository's mount, for relative locations: right behind any proxy."""
    return urlsplit(request.base_url).path.rstrip("/")


def full_name(request: Request, key: str, image: str) -> str:
    """The name a client uses: the repository key, then the image."""
    return f"{key}/{image}"
