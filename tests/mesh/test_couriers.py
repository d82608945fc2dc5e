"""Couriers: wishes outlive links, the budget is shared, and floods are bounded.  And a world."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mesh import couriers as module
from mesh.cargo import Lack
from mesh.couriers import HOPS_MAX, LIFE, RETRY, TOLD_MAX, Assembly, Cargo, statement
from mesh.leases import Leases

K, A, B, C, D = (bytes([letter]) * 32 for letter in b"KABCD")
MIB = 1 << 20


def blob(index: int) -> bytes:
    return index.to_bytes(32, "big")


def lack(index: int, *, size: int = MIB, urgent: bool = False, target: bytes = b"") -> Lack:
    return Lack(blob(index), target, size, int(LIFE), 0, HOPS_MAX, urgent)


def anybody(node: bytes) -> bool:
    return True


def sizes(*indices: int, size: int = MIB) -> dict[bytes, int]:
    return {blob(index): size for index in indices}


def take(cargo: Cargo, having: dict[bytes, int], now: float = 0.0) -> list[bytes]:
    """Carry whatever the cargo chooses of what can be had."""
    chosen = cargo.choose(having, now).fetch
    for each in chosen:
        cargo.begin(each, having[each])
        cargo.loaded(each, having[each])
    return chosen


def test_a_wish_outlives_the_link_and_ends_with_the_next_statement() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 1, [lack(1), lack(2, urgent=True)], 0.0, anybody)
    assert take(cargo, sizes(1, 2, 3), 3600.0) == [blob(2), blob(1)]  # the client's first
    assert cargo.used == 2 * MIB
    assert not cargo.leaving
    cargo.stated(C, 2, [lack(2)], 7200.0, anybody)
    assert cargo.leaving == {blob(1)}
    assert not cargo.carries(blob(1))
    cargo.gone(blob(1), 7200.0)
    assert (cargo.counts.delivered, cargo.used) == (1, MIB)


def test_a_wish_lapses_and_its_cargo_leaves() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 1, [lack(1)], 0.0, anybody)
    take(cargo, sizes(1))
    cargo.expire(LIFE - 1)
    assert not cargo.leaving
    cargo.expire(LIFE + 1)
    assert cargo.leaving == {blob(1)}
    cargo.gone(blob(1), LIFE + 1)
    assert (cargo.counts.expired, cargo.counts.delivered) == (1, 0)


def test_what_is_wanted_again_stays() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 1, [lack(1)], 0.0, anybody)
    take(cargo, sizes(1))
    cargo.stated(C, 2, [], 1.0, anybody)
    assert cargo.leaving
    cargo.stated(D, 1, [lack(1)], 2.0, anybody)
    assert not cargo.leaving
    assert cargo.carries(blob(1))


def test_a_full_budget_takes_nothing_more() -> None:
    cargo = Cargo(K, 3 * MIB)
    cargo.stated(C, 1, [lack(index) for index in range(10)], 0.0, anybody)
    assert len(take(cargo, sizes(*range(10)))) == 3
    assert cargo.choose(sizes(*range(10)), 1.0).fetch == []
    assert cargo.used <= cargo.budget


def test_whoever_has_least_comes_first_and_a_latecomer_gets_its_share() -> None:
    cargo = Cargo(K, 8 * MIB)
    cargo.stated(C, 1, [lack(index) for index in range(20)], 0.0, anybody)
    assert len(take(cargo, sizes(*range(20)))) == 8
    cargo.stated(D, 1, [lack(index) for index in range(100, 120)], 1.0, anybody)
    choice = cargo.choose(sizes(*range(100, 120)), 1.0)
    assert choice.fetch == []
    assert len(choice.displaced) == 4  # half of the budget is D's share
    for each in choice.displaced:
        cargo.displace(each)
        assert not cargo.carries(each)
        cargo.gone(each, 1.0)
    assert cargo.counts.displaced == 4
    assert len(take(cargo, sizes(*range(20), *range(100, 120)), 2.0)) == 4
    assert cargo.loads() == {C: 4 * MIB, D: 4 * MIB}
    assert cargo.choose(sizes(*range(20), *range(100, 120)), 1e6).displaced == []  # and no more


def test_one_blob_for_two_sites_is_carried_once() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 1, [lack(1)], 0.0, anybody)
    cargo.stated(D, 1, [lack(1)], 0.0, anybody)
    assert take(cargo, sizes(1)) == [blob(1)]
    assert cargo.used == MIB
    cargo.stated(C, 2, [], 1.0, anybody)
    assert cargo.carries(blob(1))


def test_what_is_not_granted_is_asked_for_again_later_and_later() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 1, [lack(1)], 0.0, anybody)
    cargo.put_off(blob(1), 0.0)
    assert cargo.choose(sizes(1), RETRY - 1).fetch == []
    assert cargo.choose(sizes(1), RETRY + 1).fetch == [blob(1)]
    cargo.put_off(blob(1), RETRY + 1)
    assert cargo.choose(sizes(1), 2 * RETRY + 2).fetch == []


def test_a_flood_of_wishes_is_bounded_and_takes_nobody_elses_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WISHES_MAX", 1000)
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 1, [lack(index) for index in range(300)], 0.0, anybody)
    flood = [lack(10_000 + index) for index in range(TOLD_MAX + 500)]
    cargo.stated(D, 1, flood, 0.0, anybody)
    assert cargo.count == 1000
    assert len(cargo.wishes[C]) == 300
    assert cargo.counts.refused == TOLD_MAX + 500 - 700
    for _ in range(3):  # the flooder alone has his share, and not more
        take(cargo, sizes(*range(300), *range(10_000, 10_700)))
    assert cargo.loads() == {C: 5 * MIB, D: 5 * MIB}


def test_statements_for_who_is_no_member_or_for_ourselves_count_nothing() -> None:
    cargo = Cargo(K, 10 * MIB)
    said = [lack(1, target=D), lack(2, target=K), lack(3, target=A)]
    cargo.stated(C, 1, said, 0.0, lambda node: node != D)
    assert cargo.wanted() == {blob(3)}
    cargo.keep(lambda node: node != A)
    assert cargo.wanted() == set()


def test_the_targets_own_later_word_beats_what_couriers_still_say() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.stated(C, 100, [], 0.0, anybody)
    stale = Lack(blob(1), C, MIB, 1000, 99, 1)
    fresh = Lack(blob(2), C, MIB, 1000, 101, 1)
    cargo.stated(B, 1, [stale, fresh], 0.0, anybody)
    assert cargo.wanted() == {blob(2)}


def test_wishes_are_passed_on_a_bounded_number_of_times() -> None:
    now, couriers = 0.0, [bytes([200 + index]) * 32 for index in range(HOPS_MAX + 2)]
    cargos = [Cargo(node, 10 * MIB) for node in couriers]
    cargos[0].stated(C, 7, [lack(1)], now, anybody)
    reached = 0
    for before, after in pairwise(cargos):
        said = before.passed(after.node, now)
        reached += bool(said)
        after.stated(before.node, 1, said, now, anybody)
    assert reached == HOPS_MAX
    assert cargos[1].wishes[couriers[0]][blob(1)].target == C
    assert cargos[1].passed(couriers[0], now) == []  # not back to who said so
    assert cargos[1].passed(C, now) == []


def test_guesses_come_last_and_end_when_the_member_speaks_for_itself() -> None:
    cargo = Cargo(K, 10 * MIB)
    cargo.guess(C, sizes(1, 2), 0.0)
    assert take(cargo, sizes(1)) == [blob(1)]
    cargo.guess(C, sizes(1), 0.0)
    assert cargo.wanted() == {blob(1)}
    cargo.stated(C, 1, [lack(3)], 0.0, anybody)
    assert cargo.leaving == {blob(1)}
    cargo.guess(C, sizes(4), 1.0)
    assert [wish.blob for wish in cargo.open(1.0)] == [blob(3), blob(4)]
    assert cargo.passed(D, 1.0)[0].blob == blob(3)
    assert len(cargo.passed(D, 1.0)) == 1  # what is only guessed is not passed on


@given(st.integers(0, 1200), st.integers(0, 5))
@examples(max_examples=30)
def test_a_statement_comes_whole_or_not_at_all(count: int, lost: int) -> None:
    said = [lack(index) for index in range(count)]
    pieces = list(statement(9, 5, said))
    assembly = Assembly()
    assert [whole for p in pieces if (whole := assembly.take(p)) is not None] == [said]
    rest = [piece for piece in pieces if piece.piece != lost]
    found = [whole for piece in rest if (whole := assembly.take(piece)) is not None]
    assert found == ([said] if lost >= len(pieces) else [])


# --- a world of sites, couriers and their visits -------------------------------------------------
@dataclass
class Site:
    """A node that holds some blobs, and lacks some."""

    node: bytes
    holds: set[bytes] = field(default_factory=set[bytes])
    lacks: set[bytes] = field(default_factory=set[bytes])
    leases: Leases = field(default_factory=Leases)


class World:
    """Couriers travel between sites, which are never up together.  A visit is one meeting."""

    def __init__(self, couriers: int, budget: int, seed: int) -> None:
        self.rng, self.now = random.Random(seed), 0.0
        self.a, self.c = Site(A), Site(C)
        self.couriers = {
            bytes([10 + n]) * 32: Cargo(bytes([10 + n]) * 32, budget) for n in range(couriers)
        }
        self.left: Counter[bytes] = Counter()  # copies of a blob that left A

    def visit(self, site: Site, courier: bytes) -> None:
        """One meeting: the site says what it lacks, gives, and takes."""
        cargo, self.now = self.couriers[courier], self.now + 600.0
        said = [Lack(each, b"", MIB, int(LIFE), 0, HOPS_MAX) for each in sorted(site.lacks)]
        for piece in statement(1, int(self.now * 1000), said):
            if piece.last:
                cargo.stated(site.node, int(self.now * 1000), said, self.now, anybody)
        cargo.expire(self.now)
        for each in set(cargo.carried) & site.lacks:  # brought, taken, and told
            site.lacks.discard(each)
            site.holds.add(each)
        left = [lack for lack in said if lack.blob in site.lacks]
        cargo.stated(site.node, int(self.now * 1000) + 1, left, self.now, anybody)
        choice = cargo.choose(dict.fromkeys(site.holds - set(cargo.carried), MIB), self.now)
        granted = site.leases.grant(courier, choice.fetch, self.now)
        for each in choice.fetch:
            if each in granted:
                cargo.begin(each, MIB)
                cargo.loaded(each, MIB)
                self.left[each] += 1
            else:
                cargo.put_off(each, self.now)
        for each in [each for each in cargo.leaving if each in site.holds]:
            cargo.gone(each, self.now)  # the site keeps it
        assert cargo.used <= cargo.budget

    def random_visit(self) -> None:
        self.visit(self.rng.choice((self.a, self.c)), self.rng.choice(list(self.couriers)))


@pytest.mark.parametrize("seed", range(8))
def test_everything_arrives_between_sites_that_never_meet(seed: int) -> None:
    world = World(couriers=3, budget=10 * MIB, seed=seed)
    world.a.holds = {blob(index) for index in range(40)}
    world.c.lacks = set(world.a.holds)
    visits = 0
    while world.c.lacks:
        world.random_visit()
        visits += 1
        assert visits < 400, "it should have come by now"
    days = world.now / 86400.0
    assert max(world.left.values()) <= 2 * (1 + int(days))  # not one copy for each courier


def test_a_courier_that_vanishes_delays_and_does_not_prevent() -> None:
    world = World(couriers=3, budget=100 * MIB, seed=1)
    world.a.holds = {blob(index) for index in range(10)}
    world.c.lacks = set(world.a.holds)
    for courier in world.couriers:
        world.visit(world.c, courier)
    gone = list(world.couriers)[:2]
    for courier in gone:  # they take it all, and are never seen again
        world.visit(world.a, courier)
        del world.couriers[courier]
    (third,) = world.couriers
    world.visit(world.a, third)
    assert not world.couriers[third].carried  # enough others carry it
    world.now += 86400.0
    world.visit(world.a, third)
    world.visit(world.c, third)
    assert not world.c.lacks
    assert set(world.left.values()) == {3}
