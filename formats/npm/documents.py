"""The JSON that clients send, decoded as far as we look into it; the rest stays as it came."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from store.errors import ManifestInvalidError

MALFORMED = (msgspec.DecodeError, UnicodeError, RecursionError)


class Attachment(msgspec.Struct):
    """An entry of ``_attachments``; of tarballs ``data`` has been taken out."""

    data: str = ""
    length: int | None = None
    content_type: str = ""


class Publication(
    msgspec.Struct,
    rename={
        "id": "_id",
        "rev": "_rev",
        "dist_tags": "dist-tags",
        "attachments": "_attachments",
    },
):
    """A packument on its way in: a publish, or a change."""

    id: str = ""
    rev: str = ""
    name: str = ""
    dist_tags: dict[str, str] = {}
    versions: dict[str, msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    attachments: dict[str, Attachment] = {}
    maintainers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    users: dict[str, bool] | msgspec.UnsetType = msgspec.UNSET
    readme: str | None = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A version's manifest, taken apart: ``rest`` is all that is not named here, verbatim."""

    name: str
    version: str
    dist: dict[str, msgspec.Raw]
    readme: str
    deprecated: str
    rest: dict[str, msgspec.Raw]


class _Known(msgspec.Struct):
    name: str
    version: str
    dist: dict[str, msgspec.Raw] = {}
    readme: str | None = ""
    deprecated: str | bool | None = ""


def decode_publication(text: str) -> Publication:
    """Read a packument.  Raises ManifestInvalidError."""
    try:
        return msgspec.json.decode(text, type=Publication)
    except MALFORMED as error:
        raise ManifestInvalidError(f"the document is malformed: {error}") from error


def split_manifest(raw: msgspec.Raw) -> Manifest:
    """Take a manifest apart.  Raises ManifestInvalidError."""
    try:
        known = msgspec.json.decode(raw, type=_Known)
        rest = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        msgspec.json.decode(raw)  # what stays encoded must be whole all the same
    except MALFORMED as error:
        raise ManifestInvalidError(f"a manifest is malformed: {error}") from error
    for name in ("dist", "readme", "deprecated"):
        rest.pop(name, None)
    return Manifest(
        known.name,
        known.version,
        known.dist,
        known.readme or "",
        deprecation(known.deprecated),
        rest,
    )


def deprecation(value: object) -> str:
    """The message of a deprecation; old tools write ``true`` for one without."""
    if isinstance(value, str):
        return value
    return "this version is deprecated" if value else ""
