"""How the next root document is written: what is said anew, and what of the past it vouches for.

Whoever loses rights, a key or its membership keeps what it wrote, as far as the drafting node knows
it; which changes there are is ``store.drafts``.  Pure.  Spec: docs/ledger.md §4.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any

from store.root import Epoch, Evicted, Member, RootDocument

Heads = Mapping[tuple[str, int], tuple[int, bytes]]


class Checkpoint:
    """Up to where members have written by the rights that they had or lose: ``heads``, at most."""

    def __init__(self, heads: Heads, epochs: Iterable[Epoch]) -> None:
        self._epochs = list(dict.fromkeys(epochs))
        self._closed: dict[tuple[str, int], int] = {}
        for epoch in self._epochs:
            place = epoch.node, epoch.incarnation
            self._closed[place] = max(epoch.seq, self._closed.get(place, 0))
        self._ends: dict[str, dict[int, tuple[int, bytes]]] = {}
        for (author, incarnation), end in heads.items():
            self._ends.setdefault(author, {})[incarnation] = end

    def close(self, member: Member, version: int) -> None:
        """End what a member may do now, if it has a key; nothing ends below where rights have."""
        rights = (member.key, member.roles, member.site, member.scopes)
        for incarnation, (seq, record) in sorted(self._ends.get(member.node, {}).items()):
            place = member.node, incarnation
            if member.key and seq > self._closed.get(place, -1):
                self._closed[place] = seq
                end = member.node, incarnation, seq, record
                self._epochs.append(Epoch(*end, *rights, version))

    def epochs(self) -> tuple[Epoch, ...]:
        """All of them, as a document lists them."""
        return tuple(sorted(self._epochs, key=lambda e: (e.node, e.incarnation, e.seq)))


def revise(
    mesh: str,
    before: Mapping[bytes, RootDocument],
    *,
    members: Iterable[Member],
    heads: Heads,
    now: float,
    present: Iterable[Member] | None = None,
    epochs: Iterable[Epoch] | None = None,
    evicted: Iterable[Evicted] = (),
    **changes: Any,
) -> RootDocument:
    """Draft the version after ``before`` (all documents now in force).  Unsigned.

    ``heads`` is what this node has of every author: whoever loses rights, a key or its membership
    keeps what it wrote up to there.  What it wrote elsewhere beyond that no longer counts.
    ``present`` and ``epochs`` are what holds now, where statements have changed it since; whoever
    is left out of ``members`` is evicted.  ``changes`` are further fields; None keeps them.
    """
    newest = max(before.values(), key=lambda document: (document.version, document.created))
    kept = {member.node: member for member in members}
    fields = _inherited(newest, kept, changes)
    known = (e for d in before.values() for e in d.epochs) if epochs is None else epochs
    checkpoint = Checkpoint(heads, known)
    for document in before.values():
        for member in document.members if present is None else present:
            if fields["reserved"] != document.reserved or not _covers(
                kept.get(member.node), member
            ):
                checkpoint.close(member, document.version)
    return RootDocument(
        mesh=mesh,
        version=newest.version + 1,
        previous=tuple(sorted(before)),
        members=tuple(sorted(kept.values(), key=lambda member: member.node)),
        epochs=checkpoint.epochs(),
        created=int(now * 1000),
        evicted=_put_out(before.values(), kept, evicted, int(now * 1000)),
        **fields,
    )


def _inherited(
    newest: RootDocument, kept: Container[str], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """What a draft changes of the mesh itself, and what it leaves as it was."""
    names = ("owners", "threshold", "reserved", "delegations")
    fields = {name: getattr(newest, name) for name in names}
    fields |= {name: value for name, value in changes.items() if value is not None}
    fields["delegations"] = tuple(d for d in fields["delegations"] if d.node in kept)
    return fields


def _put_out(
    before: Collection[RootDocument], kept: Container[str], fresh: Iterable[Evicted], at: int
) -> tuple[Evicted, ...]:
    """All that were evicted before, are now, or are left out; ``at`` is in milliseconds."""
    out = {each.node: each for document in before for each in document.evicted}
    out.update({each.node: each for each in fresh})
    for node in (member.node for document in before for member in document.members):
        if node not in kept:
            out.setdefault(node, Evicted(node, "", at))
    return tuple(sorted(out.values(), key=lambda each: each.node))


def _covers(after: Member | None, before: Member) -> bool:
    """Whether a member keeps all it had, so that its older records need no epoch."""
    return (
        after is not None
        and (after.key, after.site) == (before.key, before.site)
        and set(after.roles) >= set(before.roles)
        and ("*" in after.scopes or set(after.scopes) >= set(before.scopes))
    )
