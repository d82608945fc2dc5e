"""The root document: who belongs to a mesh and what each member may write.

Authority is not merged like content (design.md ruling 3): a document of version n+1 replaces those
it names, and is valid only when k of the n owners of each of them signed it, k > n/2.  The
id of version 1 is the mesh id, so the whole history verifies from an invitation alone.  What the
documents *mean* is ``store.authority``; how the next one is drafted is ``store.drafts``.

Spec: docs/ledger.md, "The root document".
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec

from store import canonical, identity
from store.errors import RejectedError
from store.records import Count, Hash, NodeId

OWNER, WRITER, MIRROR, COURIER, ADMIN = ROLES = ("owner", "writer", "mirror", "courier", "admin")
DOCUMENT_MAX = 1 << 20  # bytes
MEMBERS_MAX = 10_000
DELEGATIONS_MAX = 1000
ADMISSIONS_MAX = 1000  # by one delegate
DELEGABLE = frozenset({WRITER, MIRROR, COURIER})
CONTEXT = "atoll root 1"

Text = Annotated[str, msgspec.Meta(max_length=255)]


class Member(msgspec.Struct, array_like=True, frozen=True):
    """A node of the mesh.  ``scopes`` are globs of repository keys that it may write to."""

    node: NodeId
    key: Hash
    first_key: Hash
    roles: tuple[Text, ...]
    site: Text
    scopes: tuple[Text, ...]
    name: Text
    joined: Count  # milliseconds since 1970


class Epoch(msgspec.Struct, array_like=True, frozen=True):
    """The rights under which an author wrote one incarnation up to ``seq``, and the key it used.

    Whoever is removed, narrowed or given a new key gets one per incarnation, so that what it wrote
    before still counts and nothing that it back-dates does: ``record`` pins the chain.
    """

    node: NodeId
    incarnation: Count
    seq: Count
    record: Hash
    key: Hash
    roles: tuple[Text, ...]
    site: Text
    scopes: tuple[Text, ...]
    version: Count = 0  # of the document that ended these rights: its reservations apply


class Reserved(msgspec.Struct, array_like=True, frozen=True):
    """Package names in these repositories that begin with ``prefix`` belong to one site.

    An empty prefix reserves the repositories whole: only that site's nodes write there.
    """

    repositories: Text  # glob
    prefix: Text
    site: Text


class Delegation(msgspec.Struct, array_like=True, frozen=True):
    """A member may admit others by itself, within bounds and never wider than its own rights."""

    node: NodeId
    roles: tuple[Text, ...]
    scopes: tuple[Text, ...]
    sites: tuple[Text, ...]  # globs
    until: Count  # milliseconds since 1970
    limit: Count  # admissions, over all


class Evicted(msgspec.Struct, array_like=True, frozen=True):
    """A node that is out for good: no later document may list it again."""

    node: NodeId
    reason: Text
    at: Count  # milliseconds since 1970


class RootDocument(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """One version of the mesh's constitution."""

    mesh: str  # "" in version 1, whose own id it is
    version: Count
    previous: tuple[Hash, ...]  # ids of what it replaces; two or more settle a rivalry
    owners: tuple[Hash, ...]  # public keys
    threshold: Count
    members: tuple[Member, ...]
    epochs: tuple[Epoch, ...] = ()  # of one author and incarnation in rising order of seq
    reserved: tuple[Reserved, ...] = ()
    created: Count = 0  # milliseconds since 1970
    nonce: bytes = b""
    delegations: tuple[Delegation, ...] = ()
    evicted: tuple[Evicted, ...] = ()

    def member(self, node: str) -> Member | None:
        """The member with this id."""
        return next((member for member in self.members if member.node == node), None)


class SignedRoot(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """A document as its signers saw it."""

    document: bytes
    signatures: tuple[tuple[Hash, bytes], ...]  # (owner key, signature)

    @property
    def id(self) -> bytes:
        """The id that later versions name."""
        return hashlib.sha256(self.document).digest()


_document = msgspec.msgpack.Decoder(RootDocument)
_signed = msgspec.msgpack.Decoder(SignedRoot)


def encode_root(signed: SignedRoot) -> bytes:
    """The bytes that travel and are stored."""
    return canonical.encode(signed)


def read_signed(data: bytes) -> SignedRoot:
    """Decode a signed document, unverified.  Raises RejectedError."""
    if len(data) > DOCUMENT_MAX:
        raise RejectedError("the root document is too large")
    return canonical.decode(data, _signed)


def read_document(data: bytes) -> RootDocument:
    """Decode a document and check its inner rules.  Raises RejectedError."""
    document = canonical.decode(data, _document)
    reason = malformed(document)
    if reason:
        raise RejectedError(f"root document: {reason}")
    return document


def malformed(document: RootDocument) -> str | None:
    """What is wrong with a document by itself, or None."""
    owners, members = document.owners, document.members
    if not owners or len(set(owners)) != len(owners):
        return "owners are missing or listed twice"
    if not len(owners) / 2 < document.threshold <= len(owners):
        return "the threshold is not a majority of the owners"
    if len(members) > MEMBERS_MAX or len({member.node for member in members}) != len(members):
        return "too many members, or one listed twice"
    for member in members:
        if identity.node_id(member.first_key) != member.node:
            return f"{member.node[:12]} is not the id of its first key"
        if not set(member.roles) <= set(ROLES):
            return f"{member.node[:12]} has an unknown role"
    reason = _malformed_delegation(document)
    if reason:
        return reason
    genesis = document.version == 1
    if genesis != (not document.previous) or genesis != (document.mesh == ""):
        return "only version 1 begins a mesh"
    return "version 0" if document.version == 0 else None


def _malformed_delegation(document: RootDocument) -> str | None:
    members = {member.node for member in document.members}
    delegates = [delegation.node for delegation in document.delegations]
    if len(delegates) > DELEGATIONS_MAX or len(set(delegates)) != len(delegates):
        return "too many delegations, or two to one node"
    if not set(delegates) <= members:
        return "a delegation to a node that is not a member"
    for each in document.delegations:
        if not set(each.roles) <= DELEGABLE or each.limit > ADMISSIONS_MAX:
            return "a delegation beyond writers, mirrors and couriers, or of too many"
    if members & {each.node for each in document.evicted}:
        return "it lists a node that was evicted"
    return None


def mesh_of(signed: SignedRoot, document: RootDocument) -> str:
    """The mesh that a document belongs to."""
    return document.mesh or signed.id.hex()


def signers(signed: SignedRoot) -> set[bytes]:
    """The keys whose signatures under the document are right."""
    message = canonical.encode([CONTEXT, signed.document])
    return {key for key, value in signed.signatures if identity.verify(key, message, value)}


def precheck(
    signed: SignedRoot, known: Mapping[bytes, RootDocument], mesh: str
) -> tuple[RootDocument, list[RootDocument]]:
    """Judge all but the signatures: the document, and what it replaces.  Raises RejectedError."""
    document = read_document(signed.document)
    if mesh_of(signed, document) != mesh:
        raise RejectedError("a root document of another mesh")
    missing = [id_ for id_ in document.previous if id_ not in known]
    if missing:
        raise RejectedError(f"it replaces {missing[0].hex()[:12]}, which is not known here")
    before = [known[id_] for id_ in document.previous]
    newest = max((previous.version for previous in before), default=0)
    if document.version != newest + 1:
        raise RejectedError(f"version {document.version} cannot follow version {newest}")
    out = {each.node for each in document.evicted}
    for previous in before:
        if not {each.node for each in previous.evicted} <= out:
            raise RejectedError("it forgets who was evicted")
        if not {member.node for member in previous.members} <= out | _listed(document):
            raise RejectedError("it leaves members out without evicting them")
    return document, before


def _listed(document: RootDocument) -> set[str]:
    return {member.node for member in document.members}


class Votes(NamedTuple):
    """How far a document is signed: ``missing`` more of the owners in ``others`` have to."""

    signed: frozenset[bytes]
    others: frozenset[bytes]
    missing: int


def count_votes(
    signed: SignedRoot, document: RootDocument, before: Iterable[RootDocument]
) -> Votes:
    """Count the owners of what a document replaces that have signed it.

    Each document that it replaces has a say: else the keys of owners that were retired long ago
    could make a rival, lengthen it, and settle it in their own favour (docs/ledger.md §4).
    """
    present = signers(signed)
    judges = list(before) or [document]
    owners = frozenset(key for judge in judges for key in judge.owners)
    missing = max(judge.threshold - len(present & set(judge.owners)) for judge in judges)
    return Votes(owners & present, owners - present, max(0, missing))


def verify(signed: SignedRoot, known: Mapping[bytes, RootDocument], mesh: str) -> RootDocument:
    """Judge a document of ``mesh`` by those before it.  Raises RejectedError with the reason."""
    document, before = precheck(signed, known, mesh)
    votes = count_votes(signed, document, before)
    if votes.missing:
        thresholds = [judge.threshold for judge in before or [document]]
        raise RejectedError(f"signed by fewer than {max(thresholds)} of its owners")
    return document


def sign(document: RootDocument, signer: identity.Identity) -> SignedRoot:
    """Sign a document that nobody has signed yet."""
    return countersign(SignedRoot(canonical.encode(document), ()), signer)


def countersign(signed: SignedRoot, signer: identity.Identity) -> SignedRoot:
    """Add one more owner's signature."""
    others = [pair for pair in signed.signatures if pair[0] != signer.key]
    mine = (signer.key, signer.sign(canonical.encode([CONTEXT, signed.document])))
    return SignedRoot(signed.document, (*others, mine))


def member_of(
    who: identity.Identity | tuple[str, bytes, bytes],
    *,
    roles: Iterable[str] = (WRITER,),
    scopes: Iterable[str] = ("*",),
    site: str = "",
    name: str = "",
    joined: float = 0.0,
) -> Member:
    """A member entry, for an identity or for (node id, current key, first key) of a joiner."""
    if isinstance(who, identity.Identity):
        who = (who.node, who.key, who.first_key)
    node, key, first = who
    return Member(
        node, key, first, tuple(sorted(roles)), site, tuple(scopes), name, int(joined * 1000)
    )


def genesis(
    owner: identity.Identity, *, site: str = "", name: str = "", now: float, nonce: bytes = b""
) -> SignedRoot:
    """A mesh of one: the node signs itself, with every role.  ``now`` is seconds since 1970."""
    member = member_of(owner, roles=ROLES, site=site, name=name, joined=now)
    return sign(
        RootDocument(
            mesh="",
            version=1,
            previous=(),
            owners=(owner.key,),
            threshold=1,
            members=(member,),
            created=int(now * 1000),
            nonce=nonce or secrets.token_bytes(16),
        ),
        owner,
    )
