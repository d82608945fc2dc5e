"""Statements: what they sign, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from store import canonical, root, statements
from store.errors import RejectedError
from store.statements import Closing, Statements
from tests.store.ledgers import NOW, identity

ONE, TWO = identity(1), identity(2)
MESH = "ab" * 32
NEXT = ONE.rotate(bytes(32))
ENDS = (Closing(7, 3, b"r" * 32), Closing(2, 9, b"q" * 32))
ROTATION = statements.rotate(MESH, ONE, NEXT, ENDS, now=NOW)
ADMISSION = statements.admit(MESH, ONE, 1, root.member_of(TWO, scopes=("npm-*",)))


def test_golden_statements() -> None:
    """Other implementations must make the same bytes."""
    digest = statements.paper_id(canonical.encode(ROTATION)).hex()
    assert digest == "a7a8b71f80bbad62e347bc8749a6a0032549b1fcb63a2b2ee56cc99d02851918"
    digest = statements.paper_id(canonical.encode(ADMISSION)).hex()
    assert digest == "b127ab4379baea9aa8e5c88fe677dceb2c15b05513f84b38b2c55169499a534c"


def test_a_rotation_is_signed_by_both_keys_and_names_every_chain() -> None:
    again = statements.read_paper(canonical.encode(ROTATION))
    assert again == ROTATION
    statements.check_rotation(ROTATION, MESH)
    assert [closing.incarnation for closing in ROTATION.closings] == [2, 7]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"by_old": bytes(64)}, "forged"),
        ({"by_new": bytes(64)}, "forged"),
        ({"new": TWO.key}, "forged"),
        ({"node": TWO.node}, "forged"),
        ({"closings": ()}, "without its closings"),
        ({"closings": ROTATION.closings[::-1]}, "disorder"),
    ],
)
def test_a_changed_rotation_is_refused(changes: dict, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        statements.check_rotation(msgspec.structs.replace(ROTATION, **changes), MESH)
    with pytest.raises(RejectedError, match="forged"):
        statements.check_rotation(ROTATION, "cd" * 32)


def test_an_introduction_shows_the_succession_without_the_closings() -> None:
    shown = statements.succession_of(ROTATION)
    assert len(shown) < 400
    read = statements.read_rotation(shown)
    assert statements.succeeds(read, MESH, ONE.node)
    assert not statements.succeeds(read, MESH, TWO.node)
    with pytest.raises(RejectedError, match="without its closings"):
        statements.check_rotation(read, MESH)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"number": 2}, "forged"),
        ({"member": root.member_of(TWO)}, "forged"),
        ({"signature": bytes(64)}, "forged"),
        ({"mesh": "cd" * 32}, "another mesh"),
    ],
)
def test_a_changed_admission_is_refused(changes: dict, reason: str) -> None:
    statements.check_admission(ADMISSION, MESH)
    with pytest.raises(RejectedError, match=reason):
        statements.check_admission(msgspec.structs.replace(ADMISSION, **changes), MESH)


def test_an_admission_of_an_impossible_member_is_refused() -> None:
    for member in (
        root.member_of((TWO.node, TWO.key, ONE.key)),
        root.member_of(TWO, roles=("king",)),
    ):
        with pytest.raises(RejectedError, match="impossible"):
            statements.check_admission(statements.admit(MESH, ONE, 1, member), MESH)


def test_statements_are_found_by_whom_they_are_about() -> None:
    found = Statements.of([ROTATION, ADMISSION])
    assert list(found) == [ROTATION, ADMISSION]
    assert found.rotation_to(ONE.node, NEXT.key) == ROTATION
    assert found.rotation_to(ONE.node, ONE.key) is None
    assert found.last_rotation(ONE.node) == ROTATION
    assert found.last_rotation(TWO.node) is None


def test_what_is_too_large_or_no_paper_is_refused() -> None:
    for data in (bytes(2 << 20), b"\x90", b"\x93\x09\x01\x02"):
        with pytest.raises(RejectedError):
            statements.read_paper(data)
