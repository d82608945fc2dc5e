"""How a simulated mesh changes: evictions, narrower rights, new keys, invitations, owners' votes.

All of it through the product's own council and doors; what is expected of it is written down here
for ``simulations.checkers``, from the plan and never from what the product answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

from simulations.checkers import Checker
from simulations.disk import at_once
from simulations.forgery import Theft
from simulations.node import Node
from simulations.signing import identity
from simulations.world import World
from store import root
from store.council import Draft, Motion
from store.errors import RegistryError
from store.identity import Identity

AGAIN = 5.0  # seconds until an operator tries again
TURN = 10.0  # seconds from one owner's signature to the next, so that it has heard of it
VALID_FOR = 600.0  # seconds that an invitation is open


class Membership:
    """The steps of a plan that are about members.  Methods are named as their steps."""

    def __init__(self, world: World, nodes: Sequence[Node], checker: Checker, seed: int) -> None:
        self.world, self.nodes, self.checker, self._seed = world, nodes, checker, seed
        self.stolen: list[Theft] = []
        self.invited: set[int] = set()
        self._turns = 0

    def joined(self, number: int) -> bool:
        """Tell whether one who was invited belongs to the mesh by now, as it sees it."""
        node = self.nodes[number]
        return node.alive and node.life.ledger.mesh == self.checker.mesh

    def undone(self, *args: object) -> None:
        """There is no such step."""
        raise LookupError(f"a step that nobody does: {args}")

    # --- steps ---------------------------------------------------------------------------------
    def evict(self, number: int, by: int = 0, rival: int = 0) -> None:
        """An owner shuts a member out."""
        victim = self.nodes[number].identity.node
        self._remove(number, by, lambda desk: desk.evict(victim, "by plan"), rival)

    def narrow(self, number: int, by: int = 0, rival: int = 0) -> None:
        """An owner takes most of a member's rights."""
        victim = self.nodes[number].identity.node
        self.checker.grant(victim, (root.MIRROR,), ("*",))
        self._remove(number, by, lambda desk: desk.change(victim, roles=(root.MIRROR,)), rival)

    def _remove(self, number: int, by: int, draft: Draft, rival: int) -> None:
        """Take rights away: what the owner's node has of the member until now still counts."""
        owner, victim = self.nodes[by], self.nodes[number].identity.node
        if not owner.alive:
            return
        heads = at_once(owner.life.ledger.heads())
        closed = self.checker.law(owner).closed(victim)
        motion = self._propose(by, draft, rival=bool(rival))
        if motion is not None:
            seqs = {
                life: seq - (record in self.checker.stolen)  # which ends where its key does
                for (author, life), (seq, record) in heads.items()
                if author == victim
            }
            for life, seq in closed.items():  # a new key is taken over with where the old one ended
                seqs[life] = max(seq, seqs.get(life, 0))
            self.checker.removals.setdefault(victim, {})[motion.id] = seqs

    def vote(self, number: int) -> None:
        """An owner signs what waits for its signature."""
        node, council = self.nodes[number], self.nodes[number].life.ledger.council
        at_once(council.follow_keys())
        for motion in at_once(council.proposals()):
            try:
                if motion.ours:
                    at_once(council.sign(motion.id, rival=True))
            except RegistryError as error:
                node.note(f"does not sign: {error}")
        self._changed(node)

    def settle(self, owners: Sequence[int]) -> None:
        """All owners settle the rivalry of root documents, one after the other."""
        self._propose(owners[0], lambda desk: desk.settle(), rival=True)
        for turn, owner in enumerate(owners[1:], 1):
            self.world.after(TURN * turn, partial(self.vote, owner))

    def _propose(self, by: int, draft: Draft, *, rival: bool = False) -> Motion | None:
        node = self.nodes[by]
        motion: Motion | None = None
        try:
            motion = at_once(node.life.ledger.council.propose(draft, rival=rival))
        except RegistryError as error:
            node.note(f"proposes nothing: {error}")
        self._changed(node)
        return motion

    def rotate(self, number: int) -> None:
        """A member takes another key; the old one falls into a thief's hands."""
        node = self.nodes[number]
        if not self.joined(number) or not node.life.ledger.authority.is_member(node.identity.node):
            return  # a stranger that has changed its key cannot join
        old, self._turns = node.life.ledger.identity, self._turns + 1
        said = f"{self._seed} {node.name} {self._turns}"
        seed = hashlib.sha256(said.encode()).digest()
        try:
            made = at_once(node.life.ledger.council.rotate(seed))
        except RegistryError as error:
            node.note(f"keeps its key: {error}")
        else:
            node.note("has another key")
            self.stolen.append((old, made))
        self._changed(node)

    def invite(self, number: int, by: int, role: str, scope: str) -> None:
        """A member invites a stranger, which comes until it is in."""
        guest, host = self.nodes[number], self.nodes[by]
        self.invited.add(number)
        self.checker.grant(guest.identity.node, (role,), (scope,))
        if self.joined(number):
            return
        self.world.after(AGAIN, lambda: self.invite(number, by, role, scope))
        if guest.alive and host.alive:
            try:
                guest.join(host.life.doors.invite((role,), (scope,), "", VALID_FOR))
            except RegistryError as error:
                host.note(f"invites nobody: {error}")

    def _changed(self, node: Node) -> None:
        node.roots_changed()
        node.life.ledgers.catch_up()


def founder(seed: int, name: str, *, real: bool) -> Identity:
    """Return the first key of a node of a history."""
    return identity(hashlib.sha256(f"{seed} {name}".encode()).digest(), real=real)
