"""Root documents: only owners make them, and only forwards."""

from __future__ import annotations

import msgspec
import pytest

from store import canonical, revising, root
from store.errors import RejectedError
from store.identity import Identity
from store.root import RootDocument, SignedRoot
from tests.store.ledgers import NOW, identity

ONE, TWO, THREE = identity(1), identity(2), identity(3)
FOUNDING = root.genesis(ONE, site="reef", name="one", now=NOW, nonce=b"fixed nonce")
MESH = FOUNDING.id.hex()


def known(*signed: SignedRoot) -> dict[bytes, RootDocument]:
    return {each.id: root.read_document(each.document) for each in signed}


def following(
    *before: SignedRoot, owners: tuple[Identity, ...] = (), threshold: int = 1
) -> RootDocument:
    documents = known(*before)
    members = next(iter(documents.values())).members
    return revising.revise(
        MESH,
        documents,
        members=members,
        heads={},
        now=NOW,
        owners=tuple(o.key for o in owners) or None,
        threshold=threshold if owners else None,
    )


def signed(document: RootDocument, *signers: Identity) -> SignedRoot:
    made = SignedRoot(canonical.encode(document), ())
    for signer in signers:
        made = root.countersign(made, signer)
    return made


def refused(document: SignedRoot, before: dict[bytes, RootDocument], reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        root.verify(document, before, MESH)


def test_golden_founding_document() -> None:
    assert MESH == "95d304dc6e40234c673f46b9e73ddbfb46204e33f8d4146c4b57aefc0596320e"


def test_a_mesh_of_one_signs_itself_and_survives_the_wire() -> None:
    again = root.read_signed(root.encode_root(FOUNDING))
    document = root.verify(again, {}, MESH)
    (member,) = document.members
    assert (member.node, member.roles, member.site) == (ONE.node, tuple(sorted(root.ROLES)), "reef")
    assert (document.version, document.owners, document.threshold) == (1, (ONE.key,), 1)
    assert document.member(TWO.node) is None


def test_owners_sign_what_follows_and_nobody_else() -> None:
    second = signed(following(FOUNDING), ONE)
    assert root.verify(second, known(FOUNDING), MESH).version == 2
    refused(signed(following(FOUNDING)), known(FOUNDING), "fewer than 1")
    refused(signed(following(FOUNDING), TWO), known(FOUNDING), "fewer than 1")
    forged = SignedRoot(second.document, ((ONE.key, bytes(64)),))
    refused(forged, known(FOUNDING), "fewer than 1")
    refused(second, {}, "not known here")
    with pytest.raises(RejectedError, match="another mesh"):
        root.verify(second, known(FOUNDING), "ab" * 32)


def test_k_of_n_owners_count_each_once() -> None:
    two_of_three = signed(following(FOUNDING, owners=(ONE, TWO, THREE), threshold=2), ONE)
    before = known(FOUNDING, two_of_three)
    draft = following(two_of_three)
    refused(signed(draft, ONE), before, "fewer than 2")
    twice = signed(draft, ONE)
    refused(SignedRoot(twice.document, twice.signatures * 2), before, "fewer than 2")
    assert root.verify(signed(draft, ONE, THREE), before, MESH).version == 3
    assert len(signed(draft, ONE, ONE).signatures) == 1


def test_versions_neither_skip_nor_roll_back() -> None:
    second = signed(following(FOUNDING), ONE)
    third = signed(following(second), ONE)
    before = known(FOUNDING, second, third)
    leap = msgspec.structs.replace(following(second), version=9)
    refused(signed(leap, ONE), before, "cannot follow")
    back = msgspec.structs.replace(following(third), version=2)
    refused(signed(back, ONE), before, "cannot follow")


def test_a_rivalry_is_settled_by_a_version_that_names_both() -> None:
    one = signed(following(FOUNDING), ONE)
    other = signed(msgspec.structs.replace(following(FOUNDING), created=5), ONE)
    both = signed(following(one, other), ONE)
    assert set(root.verify(both, known(FOUNDING, one, other), MESH).previous) == {one.id, other.id}


def test_a_retired_owner_cannot_take_over_by_a_longer_rival() -> None:
    second = signed(following(FOUNDING, owners=(TWO,)), ONE)  # ONE gives the mesh to TWO
    rival = signed(msgspec.structs.replace(following(FOUNDING), created=5), ONE)
    longer = signed(following(rival), ONE)
    before = known(FOUNDING, rival, longer, second)
    members = root.read_document(FOUNDING.document).members
    merge = revising.revise(MESH, known(longer, second), members=members, heads={}, now=NOW)
    refused(signed(merge, ONE), before, "fewer than 1")
    refused(signed(merge, TWO), before, "fewer than 1")
    assert root.verify(signed(merge, ONE, TWO), before, MESH).version == 4


def test_who_is_left_out_is_evicted_and_never_comes_back() -> None:
    joined = signed(
        revising.revise(
            MESH,
            known(FOUNDING),
            members=[root.member_of(ONE), root.member_of(TWO)],
            heads={},
            now=NOW,
        ),
        ONE,
    )
    before = known(FOUNDING, joined)
    removal = revising.revise(MESH, known(joined), members=[root.member_of(ONE)], heads={}, now=NOW)
    assert [each.node for each in removal.evicted] == [TWO.node]
    silent = msgspec.structs.replace(removal, evicted=())
    refused(signed(silent, ONE), before, "without evicting")
    gone = signed(removal, ONE)
    before |= known(gone)
    back = revising.revise(
        MESH, known(gone), members=[root.member_of(ONE), root.member_of(TWO)], heads={}, now=NOW
    )
    refused(signed(back, ONE), before, "evicted")
    refused(signed(msgspec.structs.replace(back, evicted=()), ONE), before, "forgets")


def test_votes_tell_who_is_missing() -> None:
    second = signed(following(FOUNDING, owners=(ONE, TWO, THREE), threshold=2), ONE)
    document, before = root.precheck(signed(following(second), TWO), known(FOUNDING, second), MESH)
    votes = root.count_votes(signed(following(second), TWO), document, before)
    assert (votes.signed, votes.others, votes.missing) == (
        {TWO.key},
        {ONE.key, THREE.key},
        1,
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"owners": ()}, "owners"),
        ({"owners": (ONE.key, ONE.key), "threshold": 2}, "twice"),
        ({"owners": (ONE.key, TWO.key), "threshold": 1}, "majority"),
        ({"threshold": 0}, "majority"),
        ({"threshold": 2}, "majority"),
        ({"version": 0}, "version"),
        ({"previous": ()}, "version 1"),
        ({"mesh": ""}, "version 1"),
        ({"members": (root.member_of((ONE.node, ONE.key, TWO.key)),)}, "first key"),
        ({"members": (root.member_of(ONE, roles=("king",)),)}, "unknown role"),
        ({"members": (root.member_of(ONE), root.member_of(ONE))}, "twice"),
    ],
)
def test_documents_that_break_the_rules_are_refused(changes: dict, reason: str) -> None:
    draft = msgspec.structs.replace(following(FOUNDING), **changes)
    with pytest.raises(RejectedError, match=reason):
        root.read_document(canonical.encode(draft))
