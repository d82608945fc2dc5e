"""Paths of generic files, and where their revisions are kept."""

from __future__ import annotations

import unicodedata

from formats.contract import Repository
from store.errors import ConflictError, PathInvalidError

REVISIONS = ".revisions"  # the folder that holds every revision of a versioned repository
ROOT = "."  # the package of files that lie in no folder


def clean_path(raw: str) -> str:
    """Normalise a decoded path (NFC).  Raises PathInvalidError."""
    path = unicodedata.normalize("NFC", raw).strip("/")
    if not path or any(not part for part in path.split("/")):
        raise PathInvalidError("a path may not have empty parts")
    if path.split("/")[0] == REVISIONS:
        raise PathInvalidError(f"{REVISIONS} is where revisions are kept")
    return path


def folder_of(path: str) -> str:
    """The folder, hence package, of a file."""
    return path.rpartition("/")[0] or ROOT


async def is_folder(repository: Repository, path: str) -> bool:
    """Tell whether any file lies below ``path``."""
    direct = await repository.packages(prefix=path, limit=1)
    if path in direct:
        return True
    return bool(await repository.packages(prefix=f"{path}/", limit=1))


async def refuse_clash(repository: Repository, path: str) -> None:
    """A path is a file or a folder, never both.  Raises ConflictError."""
    if await is_folder(repository, path):
        raise ConflictError(f"{path} is a folder")
    parts = path.split("/")
    for depth in range(1, len(parts)):
        parent = "/".join(parts[:depth])
        if await repository.find(parent) is not None:
            raise ConflictError(f"{parent} is a file")
