"""The identity of a node: an Ed25519 key in ``DATA/node.key``, and which life of it writes now.

The node id is the SHA-256 of the *first* public key and never changes; keys may (ruling 2).  The
incarnation tells copies of one identity apart (ruling 1): it is bound to the place of the key file,
so that a data directory that was copied or restored elsewhere writes a chain of its own.

Spec: RFC 8032 (Ed25519).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from store.errors import RejectedError

KEY_FILE = "node.key"
PLACE_FILE = "node.place"
HEADER = "atoll node key 1"
OTHERS_MAX = 16  # keys of earlier times that are kept


def node_id(first_key: bytes) -> str:
    """The id of the node whose first public key this is: 64 hexadecimal digits."""
    return hashlib.sha256(first_key).hexdigest()


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` was made with the secret half of ``key``."""
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Identity:
    """A node's secret.  Never logged: its ``repr`` shows the node id only.

    ``others`` are seeds of keys that it had before, or is about to have.
    """

    seed: bytes = field(repr=False)
    first_key: bytes = field(repr=False)
    others: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def generate(cls) -> Identity:
        """A new node."""
        return cls.from_seed(secrets.token_bytes(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The node whose first key has this 32-byte seed."""
        return cls(seed, SigningKey(seed).verify_key.encode())

    @property
    def node(self) -> str:
        """The node id."""
        return node_id(self.first_key)

    @property
    def key(self) -> bytes:
        """The current public key, 32 bytes."""
        return SigningKey(self.seed).verify_key.encode()

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature by the current key."""
        return SigningKey(self.seed).sign(message).signature

    def rotate(self, seed: bytes | None = None) -> Identity:
        """The same node with a fresh key, which a statement must bind before it counts.

        The old key stays at hand: for what was sealed to it, and for an owner's signatures until
        a root document names the new one.
        """
        fresh = seed or secrets.token_bytes(32)
        return type(self)(fresh, self.first_key, (self.seed, *self.others)[:OTHERS_MAX])

    def expecting(self, following: Identity) -> Identity:
        """The same identity, with the key of the one that is to follow at hand."""
        others = (following.seed, *self.others)[:OTHERS_MAX]
        return type(self)(self.seed, self.first_key, others)

    def held(self) -> dict[bytes, Identity]:
        """The node under each key that it holds, by public key; the present one first."""
        seeds = (self.seed, *self.others)
        found = (
            type(self)(seed, self.first_key, tuple(s for s in seeds if s != seed)) for seed in seeds
        )
        return {each.key: each for each in found}


def load(directory: Path) -> Identity:
    """Read ``DATA/node.key``, or create it at first start.

    Raises RejectedError if the file is damaged: a node never silently becomes somebody else.
    """
    path = directory / KEY_FILE
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        identity = Identity.generate()
        save(directory, identity)
        return identity
    except UnicodeDecodeError as error:
        raise RejectedError(f"{path} is not a node key") from error
    fields = dict(line.partition(": ")[::2] for line in text.splitlines()[1:])
    try:
        seed, first = bytes.fromhex(fields["seed"]), bytes.fromhex(fields["first"])
        others = tuple(bytes.fromhex(each) for each in fields.get("others", "").split())
    except (KeyError, ValueError) as error:
        raise RejectedError(f"{path} is damaged") from error
    if not text.startswith(HEADER + "\n") or {len(seed), len(first), *map(len, others)} != {32}:
        raise RejectedError(f"{path} is not a node key")
    return Identity(seed, first, others)


def save(directory: Path, identity: Identity) -> None:
    """Write the key file, readable by its owner only, atomically and durably."""
    text = (
        f"{HEADER}\nnode: {identity.node}\n"
        f"seed: {identity.seed.hex()}\nfirst: {identity.first_key.hex()}\n"
    )
    if identity.others:
        text += f"others: {' '.join(each.hex() for each in identity.others)}\n"
    _write(directory / KEY_FILE, text)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # cancelled, too
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def new_incarnation(after: int = 0, *, now: float | None = None) -> int:
    """A number no other life of this node has: milliseconds, then 16 random bits; fits 63 bits.

    Random, because two clones of one disk may renew at the same moment.
    """
    moment = int((time.time() if now is None else now) * 1000)
    return max(after + 1, moment << 16 | secrets.randbits(16))


def _place(directory: Path) -> str:
    """Where the key file lies: copying or restoring it gives another inode."""
    return str((directory / KEY_FILE).stat().st_ino)


def moved(directory: Path) -> bool:
    """Whether this directory was copied or restored since ``settle``; False before that."""
    with contextlib.suppress(FileNotFoundError):
        return (directory / PLACE_FILE).read_text("ascii").strip() != _place(directory)
    return False


def settle(directory: Path) -> None:
    """Remember where the directory lies, once the incarnation belongs to this place."""
    _write(directory / PLACE_FILE, _place(directory) + "\n")
