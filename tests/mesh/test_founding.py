"""The page of vectors is enough: its founding, join and eviction, read as another program would.

Nothing of ours is used here but the page itself: what it says is checked by hashes, signatures and
MessagePack alone, as docs/ledger.md §1 to §4 and docs/mesh.md §2 to §4 lay them down.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from store import rebase
from tests.mesh import founding

PAGE = Path(__file__).parents[2] / "docs/mesh-vectors.md"
STORY = PAGE.read_text("utf-8").partition("## A founding")[2]
BLOCKS = {
    title: text.replace("\n", "")
    for title, text in re.findall(
        r"^(\S[^\n]*):\n\n```\n(.*?)\n```$", STORY, re.MULTILINE | re.DOTALL
    )
}
decode, encode = msgspec.msgpack.decode, msgspec.msgpack.encode
NONCE = bytes(range(32))
SECRET = hashlib.sha256(b"secret").digest()


def block(title: str) -> bytes:
    return bytes.fromhex(BLOCKS[title])


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def genuine(key: bytes, said: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, said)
    except InvalidSignature:
        return False
    return True


def frames(data: bytes) -> list[tuple[int, list[Any]]]:
    """Cut bytes into frames: type, array."""
    found: list[tuple[int, list[Any]]] = []
    while data:
        (length,) = struct.unpack_from("!I", data)
        found.append((data[4], decode(data[5 : 4 + length])))
        data = data[4 + length :]
    return found


KEYS = block("Public keys of a, b, c, d, and the second one of c")
A, B, C, D, C2 = (KEYS[at : at + 32] for at in range(0, 160, 32))
MESH = block("The mesh id")


def signers(signed: bytes) -> tuple[list[Any], set[bytes]]:
    """Read a signed root document: its fields, and whose signatures are right."""
    tag, document, signatures = decode(signed)
    assert tag == 5
    said = encode(["atoll root 1", document])
    return decode(document), {key for key, value in signatures if genuine(key, said, value)}


def test_the_mesh_is_its_first_document() -> None:
    document = block("Root document, version 1")
    assert sha(document) == MESH
    assert encode(["atoll root 1", document]) == block("What its signature covers")
    fields, signed = signers(block("Signed by a, as it travels"))
    assert signed == {A} == set(fields[4])
    assert fields[:4] == [4, "", 1, []]
    (member,) = fields[6]
    assert member[:3] == [sha(A).hex(), A, A]


def test_the_invitation_leads_to_the_inviter() -> None:
    text = BLOCKS["Invitation of a, as text"].removeprefix("atoll-invite-")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert sha(data[:-4])[:4] == data[-4:]
    tag, mesh, node, key, id_, secret, expires, addresses, site = decode(data[:-4])
    assert (tag, mesh, node, key) == (1, MESH, sha(A), A)
    assert (id_, secret, expires) == (bytes(range(16)), SECRET, 1_700_086_400)
    assert (addresses, site) == (["tls://192.0.2.1:7443"], "lagoon")


def test_the_join_proves_the_secret_and_the_key() -> None:
    assert frames(block("Join, a to c: Challenge")) == [(1, [1, NONCE, []])]
    ((kind, fields),) = frames(block("Join, c to a: Join"))
    proof, signature = fields[5], fields[9]
    tied = [b"atoll/mesh/join/1", sha(A), NONCE]
    blank = encode([*tied, *fields[:5], bytes(32), *fields[6:9]])
    assert (kind, fields[:5]) == (3, [1, MESH, C, 1, bytes(range(16))])
    assert hmac.digest(SECRET, blank, "sha256") == proof
    assert genuine(C, encode([*tied, *fields[:9]]), signature)
    ((kind, welcome),) = frames(block("Join, a to c: Welcome"))
    assert (kind, welcome[0], welcome[2]) == (4, sha(A), "reef")


def test_the_inviter_hands_the_documents_over() -> None:
    told = frames(block("Join, a to c: versions 1 and 2 in Root, and the end"))
    second = block("Root document, version 2, signed by a")
    assert [kind for kind, _ in told] == [36, 36, 36]
    assert [fields[1] for _, fields in told] == [True, True, True]
    assert [fields[2] for _, fields in told] == [block("Signed by a, as it travels"), second, b""]
    assert told[0][1][0] > 0 < told[1][1][0]
    assert told[2][1][0] == 0
    fields, signed = signers(second)
    assert (fields[1], fields[2], fields[3]) == (MESH.hex(), 2, [MESH])
    assert signed == {A}
    guest = next(member for member in fields[6] if member[0] == sha(C).hex())
    assert guest[1:6] == [C, C, ["writer"], "lagoon", ["*"]]


def test_a_record_stands_in_a_signed_chain() -> None:
    header, body = block("Record of c: header"), block("Record of c: body")
    fields = decode(header)
    assert fields[:5] == [1, sha(C).hex(), 1, 1, bytes(32)]
    assert fields[10] == sha(body)
    assert sha(header) == block("Record of c: id")
    said = encode(["atoll head 1", sha(C).hex(), 1, 1, sha(header)])
    assert said == block("Record of c: what the head's signature covers")
    batch = block("Record of c: batch")
    tag, records, head = decode(batch)
    assert (tag, records) == (3, [[header, body]])
    assert head[:6] == [2, sha(C).hex(), 1, 1, sha(header), C]
    assert genuine(C, said, head[6])
    pushed = frames(block("Record of c: pushed to a, as a frame"))
    assert pushed == [(34, [sha(C), 1, 0, True, batch])]


def test_a_fork_is_two_signed_heads_at_one_place() -> None:
    branches = decode(block("Proof of a fork, had c signed another first record"))
    ids = set()
    for tag, records, head in branches:
        ((header, body),) = records
        assert (tag, body, decode(header)[3]) == (3, None, 1)
        ids.add(sha(header))
        said = encode(["atoll head 1", sha(C).hex(), 1, 1, sha(header)])
        assert head[4] == sha(header)
        assert genuine(C, said, head[6])
    assert len(ids) == 2


def test_both_keys_sign_a_rotation() -> None:
    tag, *said, by_old, by_new, closings = decode(block("Rotation of c"))
    assert tag == 6
    assert said[:4] == [MESH.hex(), sha(C).hex(), C, C2]
    assert closings == [[1, 1, block("Record of c: id")]]
    assert said[5] == sha(encode(closings))
    text = encode(["atoll rotation 1", *said])
    assert genuine(C, text, by_old)
    assert genuine(C2, text, by_new)
    shown = decode(block("The same in Challenge or Hello"))
    assert shown == [tag, *said, by_old, by_new, []]


def test_a_delegate_admits() -> None:
    tag, mesh, by, number, member, key, signature = decode(block("Admission of d by c"))
    assert (tag, mesh, by, number, key) == (7, MESH.hex(), sha(C).hex(), 0, C2)
    assert genuine(C2, encode(["atoll admission 1", mesh, by, number, member]), signature)
    assert member[:3] == [sha(D).hex(), D, D]
    fields, _ = signers(block("Root document, version 3, signed by a"))
    (delegation,) = fields[11]
    assert delegation[:4] == [sha(C).hex(), ["writer"], ["*"], ["lagoon"]]


def test_owners_evict_together() -> None:
    third, signed = signers(block("Root document, version 3, signed by a"))
    assert (signed, third[4], third[5]) == ({A}, [A, B], 2)  # by the owners of version 2
    data = block("Root document, version 4, signed by a and b")
    fourth, signed = signers(data)
    assert signed == {A, B}
    assert fourth[3] == [sha(decode(block("Root document, version 3, signed by a"))[1])]
    assert [gone[:2] for gone in fourth[12]] == [[sha(C).hex(), "lost"]]
    (epoch,) = fourth[7]
    assert epoch[:5] == [sha(C).hex(), 1, 1, block("Record of c: id"), C]
    statements = [block("Rotation of c"), block("Admission of d by c")]
    digest = sha(b"".join([sha(decode(data)[1]), *sorted(map(sha, statements))]))
    assert frames(block("Heads of a then, without any chain, as a frame")) == [
        (32, [[], 4, digest])
    ]


def test_this_program_takes_the_same_papers() -> None:
    history = rebase.verify_history(founding.Founding().papers)
    assert history.mesh == MESH.hex()
    assert [document.version for _, document in history.roots] == [1, 2, 3, 4]
    assert len(history.statements) == 2


@pytest.mark.parametrize("at", [5, 90, 250])
def test_a_changed_byte_is_noticed(at: int) -> None:
    data = bytearray(block("Signed by a, as it travels"))
    data[at] ^= 1
    with pytest.raises((msgspec.DecodeError, AssertionError, ValueError)):  # noqa: PT012  reading and looking are one question
        _, signed = signers(bytes(data))
        assert signed == {A}
