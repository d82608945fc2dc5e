"""What others await is left to them for a while, and for no longer, however they say it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.claims import CLAIM_MAX, CLAIM_STEP, LEFT_STEP, Ages, Claims

ALL = 0b1111
A, B = b"a" * 32, b"b" * 32


def test_what_is_awaited_counts_from_when_it_was_said() -> None:
    claims = Claims()
    claims.hear(A, 0b0011, ALL, 1.0)
    assert not claims.hear(A, 0b0111, ALL, 3.0)  # saying it again makes it no younger
    assert claims.of(A) == [(1.0, 0b0011), (3.0, 0b0100)]
    assert claims.hear(A, 0b0110, ALL, 3.2)  # one it no longer awaits
    assert claims.of(A) == [(1.0, 0b0010), (3.0, 0b0100)]
    assert claims.of(B) == []


def test_a_chunk_is_left_to_all_of_them_together_for_so_long() -> None:
    """Each comes back by a new link, and takes its turn."""
    claims, left = Claims(), 0.0
    for tick in range(200):
        now, peer = tick / 10, (A, B)[tick // 15 % 2]
        if tick % 15 == 0:
            claims.unlinked(A)
            claims.unlinked(B)
            claims.hear(peer, 0b0011, ALL, now)
        found = sum(chunks for _, chunks in claims.of(peer))
        assert found in (0b0011, 0)
        left += 0.1 if found else 0.0
        claims.leave(found, now)
    assert CLAIM_MAX - 2 * LEFT_STEP < left < CLAIM_MAX + 0.2
    claims.hear(A, ALL, ALL, 30.0)
    assert claims.of(A) == [(30.0, 0b1100)]


def test_who_awaits_for_too_long_is_not_believed_again() -> None:
    claims = Claims()
    claims.hear(A, 0b0011, ALL, 0.0)
    claims.hear(B, 0b0011, ALL, 0.0)
    claims.hear(B, 0b0010, ALL, 3.0)  # has taken back what does not come after all
    claims.hear(B, 0b0100, ALL, CLAIM_MAX - 0.1)
    claims.hear(A, 0b0001, ALL, CLAIM_MAX)
    assert claims.of(A) == []
    assert claims.of(B) == [(CLAIM_MAX - 0.1, 0b0100)]
    claims.unlinked(A)
    claims.restart()  # by another manifest
    claims.hear(A, 0b1000, ALL, 9.0)
    claims.hear(B, 0b0100, ALL, 9.0)
    assert (claims.of(A), claims.of(B)) == ([], [(9.0, 0b0100)])


def test_what_has_come_meanwhile_breaks_nobodys_word() -> None:
    claims = Claims()
    claims.hear(A, 0b0011, ALL, 0.0)
    claims.hear(A, 0b0100, 0b1100, 9.0)
    assert claims.of(A) == [(9.0, 0b0100)]


def test_little_is_remembered() -> None:
    ages = Ages()
    for step in range(1000):
        ages.add(1 << step, step / 100)
    assert len(ages.steps) <= CLAIM_MAX / CLAIM_STEP + 1


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from([A, B]), st.integers(0, ALL), st.booleans()),
        max_size=60,
    )
)
def test_no_chunk_is_ever_left_to_others_for_longer(
    said: list[tuple[int, bytes, int, bool]],
) -> None:
    claims, tick, left = Claims(), 0, [0] * 4
    for ticks, peer, coming, relinked in said:
        if relinked:
            claims.unlinked(peer)
        claims.hear(peer, coming, ALL, tick / 8)
        for _ in range(ticks):
            found = 0
            for one in (A, B):
                for _, chunks in claims.of(one):
                    found |= chunks
            claims.leave(found, tick / 8)
            left = [spent + (found >> chunk & 1) for chunk, spent in enumerate(left)]
            tick += 1
    assert max(left) <= CLAIM_MAX * 8 + 1
