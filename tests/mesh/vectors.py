"""Every message of the mesh: its fields and bounds, and an example as it travels.

``python -m tests.mesh.vectors > docs/mesh-vectors.md`` writes the page; a test holds it to the code.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import msgspec
from msgspec import inspect

from mesh import addresses, handshake, neighbourhood
from mesh.addresses import AddressRecord
from mesh.handshake import Ticket
from mesh.invitation import Invitation
from mesh.messages import CONTROL, Challenge, Data, Message
from mesh.neighbourhood import LinksRecord
from mesh.wire import ALL, encode
from store import facts, records, root, statements
from tests.mesh import founding
from tests.mesh.keys import MESH, Signer, me

ONE, TWO = Signer("a"), Signer("b")
CLOCK = 1_700_000_000.0
NONCE = bytes(range(32))
SECRET = hashlib.sha256(b"secret").digest()

# What is signed and kept beyond one link.  An array begins with the tag, if it has one.
PAPERS: tuple[type[msgspec.Struct], ...] = (
    records.Header,
    records.SignedHead,
    records.Batch,
    root.RootDocument,
    root.Member,
    root.Epoch,
    root.Reserved,
    root.Delegation,
    root.Evicted,
    root.SignedRoot,
    statements.Rotation,
    statements.Closing,
    statements.Admission,
    Invitation,
    AddressRecord,
    LinksRecord,
)
FACTS: tuple[type[msgspec.Struct], ...] = (
    facts.Body,
    facts.Publish,
    facts.Point,
    facts.Flag,
    facts.Delete,
    facts.Restore,
    facts.Confirm,
    facts.Resolve,
    facts.Setting,
    facts.Cached,
    facts.Used,
    facts.File,
    facts.Use,
)
NAMED = frozenset({*PAPERS, *FACTS})

HEAD = """# Vectors of the mesh

Made by `python -m tests.mesh.vectors`; `tests/mesh/test_vectors.py` holds this page to the code. [mesh.md](mesh.md) says what the
messages mean. Fields stand in the order of the array; the last ones may be missing if they are marked with their default. `bytes 32` has that
length, `bytes ≤ n` and `text ≤ n` at most so many bytes or characters, `int < n` is from 0 on; a name stands for the array of that name.
The frames of messages are examples with made-up values; those under *Signatures* and *A founding, a join and an eviction* are genuine.
"""
PAPERS_HEAD = """## Papers

What is signed, kept and passed on: [ledger.md](ledger.md) §1 to §4, [mesh.md](mesh.md) §4, §11 and §15. An array begins with its tag, if it has
one; tags count for each kind of thing by itself.
"""
FACTS_HEAD = """## Facts

What a record's body holds: [ledger.md](ledger.md) §2 and §5.
"""
FOUNDING_HEAD = """## A founding, a join and an eviction

Node a founds a mesh at 1,700,000,000 s and invites c (invitation 00 … 0f, secret SHA-256("secret")); c joins by the nonce 00 01 … 1f, writes a
record, changes its key, and admits d; then b owns the mesh beside a, and both put c out. Seeds are SHA-256 of "a", "b", "c", "d" and "c2".
"""


def pages() -> str:
    """Return the page."""
    parts = [HEAD, "## Messages\n"]
    for code in sorted(ALL):
        kind = ALL[code]
        parts.append(f"### {code} {kind.__name__}\n")
        rows = [f"| {name} | {said} |" for name, said in fields(kind)]
        if rows:
            parts.append("| field | |\n|---|---|\n" + "\n".join(rows) + "\n")
        parts.append(block(encode(example(kind))))
    parts += [PAPERS_HEAD, *map(table, PAPERS), FACTS_HEAD, *map(table, FACTS)]
    for head, vectors in (("## Signatures\n", signed()), (FOUNDING_HEAD, founding.vectors())):
        parts.append(head)
        for title, data in vectors:
            parts += [f"{title}:\n", block(data)]
    return "\n".join(parts)


def table(kind: type[msgspec.Struct]) -> str:
    """Lay out what one paper or fact holds."""
    tag = kind.__struct_config__.tag
    rows = [f"| {name} | {said} |" for name, said in fields(kind)]
    title = kind.__name__ if tag is None else f"{kind.__name__}, tag {tag}"
    return f"### {title}\n\n| field | |\n|---|---|\n" + "\n".join(rows) + "\n"


def block(data: bytes | str) -> str:
    """Lay bytes or text out in lines of 96."""
    text = data if isinstance(data, str) else data.hex()
    lines = [text[at : at + 96] for at in range(0, len(text), 96)]
    return "```\n" + "\n".join(lines) + "\n```\n"


def fields(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """Return what an array holds, in order."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    found: list[tuple[str, str]] = []
    for each in info.fields:
        if kind is Data and each.name == "raw":
            said = f"{said_of(each.type)}, behind the array"
        else:
            said = said_of(each.type) + default_of(each)
        found.append((each.name, said))
    return found


def default_of(field: inspect.Field) -> str:
    if field.required:
        return ""
    value = None if field.default is msgspec.NODEFAULT else field.default
    return f"; default {'none' if value in ((), None, b'', '') else str(value).lower()}"


def said_of(kind: inspect.Type) -> str:
    """Say in words what a type admits."""
    match kind:
        case inspect.BytesType(min_length=low, max_length=high):
            if low and low != high:
                return f"bytes {low} to {high}"
            return "bytes" if high is None else f"bytes {'' if low == high else '≤ '}{high}"
        case inspect.StrType(min_length=low, max_length=high):
            return "text" if high is None else f"text {high}" if low == high else f"text ≤ {high}"
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType(ge=low, lt=below, le=most):
            return said_of_int(low, below if most is None or below is not None else most + 1)
        case inspect.VarTupleType(item_type=item, max_length=most):
            return f"array{'' if most is None else f' of at most {most}'}: {said_of(item)}"
        case inspect.TupleType(item_types=items):
            return f"[{', '.join(map(said_of, items))}]"
        case inspect.UnionType(types=kinds) if len(kinds) == len(FACTS) - 3:
            return "any of those with a tag"
        case inspect.UnionType(types=kinds):
            return " or ".join(sorted(map(said_of, kinds)))
        case inspect.NoneType():
            return "nil"
        case inspect.StructType(cls=cls) if cls in NAMED:
            return cls.__name__
        case inspect.StructType(fields=inner):
            return (
                "[" + ", ".join(f"{f.name}: {said_of(f.type)}{default_of(f)}" for f in inner) + "]"
            )
        case _:
            raise AssertionError(f"no words for {kind}")


def said_of_int(low: int | None, below: int | None) -> str:
    if below is None:
        return "int"
    if low or below & (below - 1) or below < 1 << 8:
        return f"int {f'{low} to ' if low else '≤ '}{below - 1}"
    return f"int < 2^{below.bit_length() - 1}"


def example(kind: type[Message]) -> Message:
    """Make a message that names every field, the same in every run."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    built: Message = _value(info, kind.__name__)
    return built


def _value(kind: inspect.Type, seed: str) -> Any:
    number = hashlib.sha256(seed.encode()).digest()
    match kind:
        case inspect.BytesType(min_length=low, max_length=high):
            size = low or min(high or 5, 5)
            return (number * (1 + size // 32))[:size]
        case inspect.StrType():
            return f"t{number[0]}"
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=low, lt=below, le=most):
            most = 1000 if most is None else most
            return max(low or 0, min(number[1] << 4, most, (below or 1001) - 1))
        case inspect.VarTupleType(item_type=item):
            return tuple(_value(item, f"{seed} {index}") for index in range(2))
        case inspect.StructType(cls=cls, fields=inner):
            return cls(*(_value(field.type, f"{seed}.{field.name}") for field in inner))
        case _:
            raise AssertionError(f"no value for {kind}")


def signed() -> list[tuple[str, bytes]]:
    """Return what nodes sign, byte for byte."""
    challenge, ticket = Challenge(1, NONCE), Ticket(NONCE[:16], SECRET)
    hello = handshake.hello(me("a"), challenge, TWO.key, CONTROL, CLOCK)
    join = handshake.join(me("a"), ticket, challenge, TWO.key, CLOCK)
    links = [neighbourhood.Path(bytes.fromhex(TWO.node)[:8], 12_500, 2_000_000, 100, 0)]
    return [
        ('Seed of node a, SHA-256("a")', ONE.seed),
        ("Its public key", ONE.key),
        ("Its id, SHA-256 of that", bytes.fromhex(ONE.node)),
        ("Public key of the listener, node b", TWO.key),
        ('The mesh, SHA-256("test mesh")', MESH),
        ("Hello of a to b for the nonce 00 01 … 1f, as a frame", encode(hello)),
        ('Join of a to b, invitation 00 … 0f, secret SHA-256("secret")', encode(join)),
        (
            "Address record of a (§11)",
            addresses.sign(ONE, MESH, ("tls://192.0.2.1:7443",), CLOCK),
        ),
        ("Word of a on its links (§15)", neighbourhood.sign(ONE, MESH, links, CLOCK)),
    ]


if __name__ == "__main__":
    sys.stdout.write(pages())
