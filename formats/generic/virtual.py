"""Files of several members as one: the first that has a path gives it; listings are merged.

A listing shows what is kept, so of a path that some member keeps, the first of those gives it;
only of one that none keeps, remote members are asked in turn.
"""

from __future__ import annotations

from formats.contract import Request, Response
from formats.generic.paths import REVISIONS, clean_path
from formats.virtual import Members, Virtual
from store.errors import NotFoundError


async def answer(request: Request, members: Members) -> Response | None:
    """The file that a path names; None for listings and revisions."""
    if "path" not in request.params or request.path.endswith("/"):
        return None
    if "list" in request.query or "versions" in request.query or request.argument("version"):
        return None
    path = clean_path(request.params["path"])
    if path.startswith(f"{REVISIONS}/"):
        return None
    keeper = await members.keeper(path)
    if keeper is not None:
        return await members.of(keeper)
    try:
        return await members.first(path)
    except NotFoundError:
        return None  # a folder, perhaps of several members


VIRTUAL = Virtual(answer, by_path=True)
