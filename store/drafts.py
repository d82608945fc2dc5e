"""Drafts of the next root document: evict, change rights, owners, delegations, settle.  Pure.

A draft is nothing until its owners have signed it (``store.council``).  Each one starts from what
holds now: keys that members have rotated to are taken over, rivals are all named, and whoever loses
something keeps what it wrote up to the heads that the drafting node knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from store import revising, root, settlement
from store.authority import Authority
from store.errors import ConflictError, NotFoundError, RejectedError
from store.revising import Heads
from store.root import Delegation, Evicted, Member, Reserved, RootDocument
from store.view import LOCKED, covers

REASON_MAX = 255  # characters
REASON_DEFAULT = "evicted"


@dataclass(frozen=True, slots=True)
class Desk:
    """What the drafting node knows.  ``now`` is seconds since 1970.

    ``heads`` end before the first proven fork of each chain, so that no draft vouches for one.
    """

    authority: Authority
    heads: Heads
    now: float
    forks: Mapping[tuple[str, int], int]

    # --- drafts --------------------------------------------------------------------------------
    def add(self, member: Member) -> RootDocument:
        """Let a node in."""
        gone = self.authority.evicted().get(member.node)
        if gone is not None:
            raise RejectedError(f"{member.node[:12]} was evicted and stays out: {gone.reason}")
        return self._draft([*self._members(without=member.node), member])

    def change(
        self,
        node: str,
        *,
        roles: tuple[str, ...] | None = None,
        scopes: tuple[str, ...] | None = None,
        site: str | None = None,
        name: str | None = None,
        key: bytes | None = None,
    ) -> RootDocument:
        """Change what a member may do, or settle which key is its own.

        Where rivals give others new keys too, those have the newest one's until they are named.
        """
        unknown = set(roles or ()) - set(root.ROLES)
        if unknown:
            raise RejectedError(f"no such role: {', '.join(sorted(unknown))}")
        said: dict[str, Any] = {"scopes": scopes, "site": site, "name": name, "key": key}
        said["roles"] = None if roles is None else tuple(sorted(set(roles)))
        changes = {field: value for field, value in said.items() if value is not None}
        changed = msgspec.structs.replace(self._member(node), **changes)
        changed = changed if key is not None else self._keyed(changed)
        return self._draft([*self._members(without=node, lenient=key is not None), changed])

    def evict(self, node: str, reason: str = "") -> RootDocument:
        """Shut a member out for good; whom it admitted is out with it."""
        member = self._member(node)
        authority = self.authority
        rest = self._members(without=node)
        retired = {e.key for e in authority.epochs() if e.node == node} | {member.key}
        retired |= {each.key for each in authority.entries(node)}
        owners = tuple(key for key in self._owners() if key not in retired)
        if not owners:
            raise ConflictError(
                "the only owner cannot be evicted: make another node an owner first"
            )
        epochs = [e for e in authority.vouched() if e.node != node or not self._forked(e)]
        out = Evicted(node, reason[:REASON_MAX] or REASON_DEFAULT, int(self.now * 1000))
        return self._draft(
            rest,
            epochs=epochs,
            evicted=[out],
            owners=owners,
            threshold=_threshold(authority.newest.threshold, len(owners)),
        )

    def govern(self, owners: Iterable[bytes], threshold: int | None = None) -> RootDocument:
        """Change who owns the mesh, and how many of them must sign; by default a majority."""
        keys = tuple(dict.fromkeys(owners))
        return self._draft(self._members(), owners=keys, threshold=_threshold(threshold, len(keys)))

    def succeed(self, old: bytes, new: bytes) -> RootDocument:
        """Put an owner's new key in the place of its old one."""
        keys = self._owners()
        return self._draft(self._members(), owners=tuple(new if k == old else k for k in keys))

    def delegate(self, delegation: Delegation) -> RootDocument:
        """Let a member admit others, within bounds."""
        member = self._member(delegation.node)
        if delegation.node in self.authority.admitted():
            raise RejectedError("a node that was admitted by a delegate cannot be one")
        beyond = set(delegation.roles) - root.DELEGABLE
        if beyond:
            raise RejectedError(f"only owners make a node {', '.join(sorted(beyond))}")
        for scope in delegation.scopes:
            if not any(covers(own, scope) for own in member.scopes):
                raise RejectedError(f"{member.node[:12]} may not write to {scope!r} itself")
        if not 0 < delegation.limit <= root.ADMISSIONS_MAX:
            raise RejectedError(f"a delegate admits 1 to {root.ADMISSIONS_MAX} nodes")
        rest = [d for d in self._delegations() if d.node != delegation.node]
        return self._draft(self._members(), delegations=(*rest, delegation))

    def withdraw(self, node: str) -> RootDocument:
        """End a delegation; whom it admitted stays, signed in by the owners."""
        kept = tuple(d for d in self._delegations() if d.node != node)
        if kept == self._delegations():
            raise NotFoundError(f"{node[:12]} may not admit anybody")
        theirs = [n for n, by in self.authority.admitted().items() if by == node]
        kin = (self._keyed(self._member(n)) for n in theirs if self.authority.is_member(n))
        return self._draft([*self._members(), *kin], delegations=kept)

    def reserve(self, reserved: Iterable[Reserved]) -> RootDocument:
        """Change which names and repositories belong to which sites."""
        return self._draft(self._members(), reserved=tuple(reserved))

    def settle(self) -> RootDocument:
        """Name all rivals: what both give stays, what one of them took is gone."""
        if not self.authority.contested:
            raise ConflictError("there are no rival root documents to settle")
        return self._draft(self._members())

    # --- inside --------------------------------------------------------------------------------
    def _draft(self, members: Iterable[Member], **changes: Any) -> RootDocument:
        authority = self.authority
        if authority.contested:
            rivals, owners = authority.in_force.values(), self._owners()
            changes.setdefault("owners", owners)
            changes.setdefault("threshold", _threshold(authority.newest.threshold, len(owners)))
            changes.setdefault("reserved", settlement.agreed_reserved(rivals))
            changes.setdefault("delegations", self._delegations())
        changes.setdefault("epochs", authority.vouched())
        apart = authority.branched()
        return revising.revise(
            authority.mesh,
            authority.in_force,
            members=list(members),
            heads={p: end for p, end in self.heads.items() if p not in apart or end[0] < apart[p]},
            now=self.now,
            present=authority.present(),
            **changes,
        )

    def _parted(self) -> tuple[list[RootDocument], list[RootDocument]]:
        """The documents in force, oldest first, and the last ones before they parted."""
        authority = self.authority
        bases = settlement.partings(authority.documents, authority.in_force)
        return list(authority.in_force.values()), list(bases.values())

    def _owners(self) -> tuple[bytes, ...]:
        """The owners' keys; of rivals, without those that one of them dropped.

        Raises ConflictError when nobody would be left.
        """
        owners = settlement.agreed_owners(*self._parted(), self.authority.evicted())
        if not owners:
            raise ConflictError("rivals have dropped all owners between them")
        return owners

    def _delegations(self) -> tuple[Delegation, ...]:
        return settlement.agreed_delegations(*self._parted())

    def _members(self, *, without: str = "", lenient: bool = False) -> list[Member]:
        """Those whom owners signed in, with the keys they have now; of rivals, what both give.

        ``lenient``: of several keys in dispute only one can be named at a time.
        """
        documents = self.authority.in_force.values()
        signed = {member.node for document in documents for member in document.members}
        return [
            self._keyed(member, lenient=lenient)
            for node, member in self.authority.people().items()
            if node in signed and node != without
        ]

    def _keyed(self, member: Member, *, lenient: bool = False) -> Member:
        return msgspec.structs.replace(member, key=self._key(member.node, lenient=lenient))

    def _member(self, node: str) -> Member:
        member = self.authority.people().get(node)
        if member is None:
            raise NotFoundError(f"no member {node[:12]}")
        return member

    def _key(self, node: str, *, lenient: bool = False) -> bytes:
        """The key to write down for a member.  Raises ConflictError if an owner has to name it."""
        authority = self.authority
        now = [member.key for member in authority.entries(node)]
        key: bytes | None = now[-1]
        if len(set(now)) > 1:
            bases = settlement.partings(authority.documents, authority.in_force)
            before = {member.key for member in authority.entries(node, bases)}
            key = settlement.agreed_key(now, before)
            if key is None and lenient:
                key = next(filter(None, reversed([k for k in now if k not in before] or now)), None)
        if key == LOCKED:  # only an owner's word unlocks it
            key = self._signed_key(node)
        if not key:
            known = " or ".join(sorted({each.hex() for each in now if each}))
            raise ConflictError(
                f"the key of {node[:12]} is in dispute: name {known or 'one'} "
                f"(atoll mesh roles {node[:12]} --key KEY), or evict it"
            )
        return key

    def _signed_key(self, node: str) -> bytes | None:
        """The key that owners wrote down, last of all, for a node which two rotations lock."""
        rivals, bases = self._parted()
        before = {each.key for each in (base.member(node) for base in bases) if each is not None}
        keys = [each.key for each in (d.member(node) for d in rivals) if each is not None]
        fresh = [key for key in keys if key not in before] or keys
        return fresh[-1] if fresh else None

    def _forked(self, epoch: root.Epoch) -> bool:
        fork = self.forks.get((epoch.node, epoch.incarnation))
        return fork is not None and epoch.seq >= fork


def _threshold(wanted: int | None, owners: int) -> int:
    """A number of signatures that is possible: the wanted one, or the least majority."""
    least = owners // 2 + 1
    return least if wanted is None or not least <= wanted <= owners else wanted
