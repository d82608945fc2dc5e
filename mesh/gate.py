"""Who is let in, and what the evicted are told.  Pure.  Spec: docs/mesh.md §4.

An evicted node may come once more, by a key that was its own: it hears the root documents up to the
one that shuts it out, and nothing else.  Else it would go on taking its users' work, which no other
node will ever count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from mesh.messages import CONTROL, Heads, Hello
from store import root
from store.authority import Authority
from store.errors import RejectedError
from store.statements import SUCCESSION_MAX, read_paper, read_rotation, succeeds

FAREWELL = 10.0  # seconds that an evicted node has to ask for the documents
AGAIN = 60.0  # seconds until it may come for them again


class Porter:
    """Judges introductions by the authority of the moment."""

    def __init__(self) -> None:
        self._told: dict[bytes, float] = {}  # evicted node → when it came last

    def refusal(self, authority: Authority, mesh: str, said: Hello, now: float) -> str:
        """Judge a genuine introduction; "" lets it in, if only to be told that it is out."""
        if said.mesh.hex() != mesh:
            return "this node belongs to another mesh"
        node = said.node.hex()
        out = authority.evicted().get(node)
        if out is not None:
            told = self._told.get(said.node)
            early = told is not None and now - told < AGAIN
            if early or said.channel != CONTROL or not _was_theirs(authority, said):
                return f"evicted from this mesh: {out.reason}"
            self._told[said.node] = now
            return ""
        if not authority.is_member(node):
            return "not a member of this mesh"
        if authority.retired(node, said.key):
            return "that node has given up this key"
        if not authority.follows(node, said.succession, said.key):
            return "the key is not that member's current one"
        return ""


def _was_theirs(authority: Authority, said: Hello) -> bool:
    """Tell whether a key is, or by the rotations shown has followed, one that was the node's own.

    It may have changed its key before it could hear that it is out.
    """
    node = said.node.hex()
    known = {said.key} if authority.knows_key(node, said.key) else set[bytes]()
    with contextlib.suppress(RejectedError):
        for rotation in map(read_rotation, said.succession[:SUCCESSION_MAX]):
            old = rotation.old in known or authority.knows_key(node, rotation.old)
            if old and succeeds(rotation, authority.mesh, node):
                known.add(rotation.new)
    return said.key in known


def news(authority: Authority, node: bytes) -> Heads | None:
    """Return what is said to an evicted node, which may then ask for documents; else None."""
    if node.hex() not in authority.evicted():
        return None
    return Heads((), authority.version, authority.digest)


def farewell(papers: Iterable[bytes], node: bytes) -> Iterator[bytes]:
    """Choose what an evicted node is told: root documents, up to the first that evicts it.

    ``papers`` come in an order in which they verify.
    """
    for data in papers:
        paper = read_paper(data)
        if not isinstance(paper, root.SignedRoot):
            return  # statements and proposals follow: they are the members' business
        yield data
        try:
            document = root.read_document(paper.document)
        except RejectedError:
            continue
        if node.hex() in {each.node for each in document.evicted}:
            return
