"""Which conflicts a history made, computed from its records by nothing of the product's.

By docs/ledger.md §5, from plain MessagePack: rival bytes at one coordinate, and pointers that were
moved concurrently.  What ``store.conflicts`` lists must be just these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from simulations.disk import at_once
from simulations.law import read
from simulations.life import Subject
from simulations.world import ViolationError
from store import schema
from store.chain import VALID
from store.conflicts import Conflicts
from store.database import Database

PUBLISH, POINT, DELETE, RESTORE, RESOLVE = 1, 2, 4, 5, 7  # facts
Place = tuple[str, ...]


class Said(NamedTuple):
    """One fact of one record."""

    record: bytes
    moment: tuple[int, str, bytes]  # hlc, author, record
    fact: list[Any]


def histories(node: Subject) -> dict[Place, list[Said]]:
    """Return what was said about each file and pointer, by records that count."""
    records = schema.facts.tables["records"].c
    query = sa.select(records.id, records.header, records.body).where(records.status == VALID)
    found = defaultdict[Place, list[Said]](list)
    for id_, header, body in node.disk.port.look(lambda c: c.execute(query).all()):
        fields = read(bytes(header))
        moment = (fields[5], fields[1], bytes(id_))
        for fact in read(bytes(body))[1]:
            said = Said(bytes(id_), moment, fact)
            if fact[0] == PUBLISH:
                for file in fact[4]:
                    found[fact[1], file[0]].append(said._replace(fact=[PUBLISH, file[2]]))
            elif fact[0] == POINT:
                found[fact[1], fact[2], fact[3]].append(said)
            elif fact[0] in (DELETE, RESTORE, RESOLVE):
                found[fact[1], fact[2]].append(said)
    return found


def disputed(about: list[Said]) -> bool:
    """Tell whether rival bytes stand at a coordinate that nobody has settled."""
    undone = {id_ for said in about if said.fact[0] == RESTORE for id_ in said.fact[3]}
    deletes = [s for s in about if s.fact[0] == DELETE and s.record not in undone]
    hidden = {id_ for said in deletes for id_ in said.fact[3]}
    published = [said for said in about if said.fact[0] == PUBLISH]
    live = {said.record: said.fact[1] for said in published if said.record not in hidden}
    gone = [said for said in published if said.record in hidden]
    burnt = {min(gone, key=lambda s: (s.moment[0], s.record)).fact[1]} if gone else set[str]()
    if not live or len({*live.values()} | burnt) < 2:
        return False
    words = [s for s in about if s.fact[0] == RESOLVE and s.fact[3] in live.values()]
    if not words:
        return True
    last = max(words, key=lambda said: said.moment).fact
    return any(id_ not in last[4] and digest != last[3] for id_, digest in live.items())


def divided(about: list[Said]) -> bool:
    """Tell whether a pointer has values beside the one that is read."""
    seen = {id_ for said in about for id_ in said.fact[5]}
    current = [said for said in about if said.record not in seen]
    chosen = max(current, key=lambda said: said.moment).fact[4]
    return bool({said.fact[4] for said in current} - {chosen, None})


def made(node: Subject) -> tuple[set[Place], set[Place]]:
    """Return the files and the pointers that are in conflict."""
    found = histories(node)
    files: set[Place] = {p for p, about in found.items() if len(p) == 2 and disputed(about)}
    return files, {p for p, about in found.items() if len(p) == 3 and divided(about)}


def check(node: Subject, written: Collection[bytes]) -> None:
    """Compare what a node lists with what was made.  Raises ViolationError."""
    files, pointers = made(node)
    listing = Conflicts(cast("Database", node.disk.port))
    repositories = {place[0] for place in histories(node)}
    shown_files, shown_pointers = set[Place](), set[Place]()
    for repository in sorted(repositories):
        shown = at_once(listing.files(repository, limit=10_000))
        shown_files |= {(repository, each.winner.path) for each in shown}
        moved = at_once(listing.pointers(repository, limit=10_000))
        shown_pointers |= {(repository, each.package, each.name) for each in moved}
    for what, right, told in (("file", files, shown_files), ("tag", pointers, shown_pointers)):
        if right != told:
            one = min(right ^ told)
            how = "does not list" if one in right else "lists without reason"
            raise ViolationError(f"{node.name}: {how} the conflict of {what} {one}")
    _check_plain(node, files, written)


def _check_plain(node: Subject, files: set[Place], written: Collection[bytes]) -> None:
    """Who published other bytes where nobody ever deleted or resolved: that is a conflict."""
    for place, about in histories(node).items():
        plain = len(place) == 2 and all(said.fact[0] == PUBLISH for said in about)
        digests = {said.fact[1] for said in about if said.record in written}
        if plain and len(digests) > 1 and place not in files:
            raise ViolationError(f"{node.name}: {place} was published twice, and is not listed")
