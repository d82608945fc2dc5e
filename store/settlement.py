"""What rival root documents agree on: all that a document which settles them may give.  Pure.

While rivals stand side by side a right must be in both, so what one of them took must stay gone
when a later document names them all: the past that they vouch for is met point by point, never
joined.  Spec: docs/ledger.md §4.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeVar

import msgspec

from store.root import Delegation, Epoch, Member, Reserved, RootDocument
from store.view import LOCKED, View, covers

T = TypeVar("T")


def rank(document: RootDocument) -> tuple[int, int, bytes]:
    """Order documents from the oldest to the newest."""
    return document.version, document.created, document.nonce


def meet(one: Member, other: Member) -> Member:
    """What two entries of one node both give; no key is its own where they differ."""
    return msgspec.structs.replace(
        one,
        key=one.key if one.key == other.key else LOCKED,
        roles=tuple(sorted(set(one.roles) & set(other.roles))),
        scopes=_both(one.scopes, other.scopes),
        site=one.site if one.site == other.site else "",
    )


def agreed_people(views: Sequence[View]) -> list[Member]:
    """The members that all documents list, with what they all give them now."""
    found = []
    for node, member in views[-1].people.items():
        if all(node in view.people for view in views):
            for view in views[:-1]:
                member = meet(member, view.people[node])
            found.append(member)
    return found


def agreed_key(now: Iterable[bytes], before: Container[bytes]) -> bytes | None:
    """The key of a node after all; None where only an owner can tell.

    A key that was there ``before`` rivals parted goes when one of them has replaced it: it may be
    stolen.
    """
    keys = set(now)
    fresh = keys if len(keys) == 1 else {key for key in keys if key not in before}
    return fresh.pop() if len(fresh) == 1 else None


def agreed_epochs(views: Sequence[View]) -> list[Epoch]:
    """What all documents vouch for of the past; ``views`` in order, the newest last."""
    if len(views) == 1:
        return list(dict.fromkeys(views[0].all_epochs()))
    places = sorted({place for view in views for place in view.epochs})
    apart = branched(views)
    return [epoch for place in places for epoch in _agreed(views, *place, apart.get(place))]


def branched(views: Sequence[View]) -> dict[tuple[str, int], int]:
    """Where rivals pin different records first, by author and incarnation."""
    found = dict[tuple[str, int], int]()
    for place in {place for view in views for place in view.epochs}:
        pins = [_pins(view, place) for view in views]
        ends = {seq for pinned in pins for seq in pinned}
        apart = [seq for seq in ends if len({p[seq] for p in pins if seq in p}) > 1]
        if apart:
            found[place] = min(apart)
    return found


def _pins(view: View, place: tuple[str, int]) -> dict[int, bytes]:
    return {epoch.seq: epoch.record for epoch, _ in reversed(view.epochs.get(place, ()))}


def _agreed(
    views: Sequence[View], author: str, incarnation: int, apart: int | None
) -> Iterable[Epoch]:
    """End a chain's rights wherever one of them does; give up to there what all of them give."""
    judges = [view for view in views if _speaks(view, views, author)]
    ends = {e.seq: e for v in judges for e, _ in v.epochs.get((author, incarnation), ())}
    for seq in sorted(ends):
        entries = [_entry(view, author, incarnation, seq) for view in judges]
        given = [entry for entry in entries if entry is not None]
        if len(given) < len(entries):
            return  # one of them has shut its author out before that
        if len({entry.key for entry in given}) > 1 or seq == apart:
            return  # nobody's head there holds in all of them, and one later would reach back
        yield _met(ends[seq], given)


def _speaks(view: View, views: Sequence[View], author: str) -> bool:
    """Whether a document has a say about a node: not where only a rival has let it in."""
    known = author in view.people or author in view.evicted
    known = known or any(node == author for node, _ in view.epochs)
    return known or all(other.document.member(author) is None for other in views)


def _entry(view: View, author: str, incarnation: int, seq: int) -> Epoch | None:
    """Return what one document gives there, as an epoch."""
    for epoch, _ in view.epochs.get((author, incarnation), ()):
        if seq <= epoch.seq:
            return epoch
    member = view.people.get(author)
    if member is None:
        return None
    rights = (member.key, member.roles, member.site, member.scopes)
    return Epoch(author, incarnation, seq, b"", *rights, view.document.version)


def _met(end: Epoch, entries: Sequence[Epoch]) -> Epoch:
    first, *rest = entries
    roles, scopes = set(first.roles), first.scopes
    for entry in rest:
        roles &= set(entry.roles)
        scopes = _both(scopes, entry.scopes)
    return msgspec.structs.replace(
        end,
        key=first.key,
        roles=tuple(sorted(roles)),
        scopes=scopes,
        site=first.site if len({entry.site for entry in entries}) == 1 else "",
        version=max(entry.version for entry in entries),
    )


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    scopes = [s for s in one if any(covers(wider, s) for wider in other)]
    scopes += [s for s in other if any(covers(wider, s) for wider in one)]
    return tuple(dict.fromkeys(scopes))


# --- the mesh itself ---------------------------------------------------------------------------
def agreed_reserved(rivals: Iterable[RootDocument]) -> tuple[Reserved, ...]:
    """What any of them reserves: a reservation takes from everybody else."""
    return tuple(dict.fromkeys(each for document in rivals for each in document.reserved))


def agreed_owners(
    rivals: Sequence[RootDocument], bases: Sequence[RootDocument], out: Container[str]
) -> tuple[bytes, ...]:
    """Who owns the mesh after all.  ``out`` are evicted nodes: what they held goes with them."""
    papers = (*bases, *rivals)
    lost = {member.key for each in papers for member in each.members if member.node in out}
    lost |= {epoch.key for each in papers for epoch in each.epochs if epoch.node in out}
    merged = _merged([base.owners for base in bases], [rival.owners for rival in rivals])
    return tuple(key for key in merged if key not in lost)


def agreed_delegations(
    rivals: Sequence[RootDocument], bases: Sequence[RootDocument]
) -> tuple[Delegation, ...]:
    """Who may let others in after all; of two that were both changed, the newest one's."""
    before = [base.delegations for base in bases]
    merged = _merged(before, [rival.delegations for rival in rivals])
    return tuple({each.node: each for each in merged}.values())


def _merged(bases: Sequence[Iterable[T]], rivals: Sequence[Iterable[T]]) -> list[T]:
    """All that was there when they parted or came since, but for what one of them has dropped."""
    sides = [set(rival) for rival in rivals]
    gone = {each for each in chain(*bases) if any(each not in side for side in sides)}
    return [each for each in dict.fromkeys(chain(*bases, *rivals)) if each not in gone]


def in_order(documents: Mapping[bytes, RootDocument]) -> dict[bytes, RootDocument]:
    """Sort documents from the oldest to the newest, alike wherever and however they came."""
    return dict(sorted(documents.items(), key=lambda item: (rank(item[1]), item[0])))


def partings(
    documents: Mapping[bytes, RootDocument], rivals: Iterable[bytes]
) -> dict[bytes, RootDocument]:
    """The newest documents that all of these come after: several where these settled rivals."""
    shared: set[bytes] | None = None
    for rival in rivals:
        before, front = set[bytes](), [rival]
        while front:
            id_ = front.pop()
            if id_ not in before:
                before.add(id_)
                front += documents[id_].previous
        shared = before if shared is None else shared & before
    common = shared or set()
    older = {previous for id_ in common for previous in documents[id_].previous}
    return in_order({id_: documents[id_] for id_ in common - older})
