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
from mesh.handshake import Ticket
from mesh.messages import CONTROL, Challenge, Data, Message
from mesh.wire import ALL, encode
from tests.mesh.keys import MESH, Signer, me

ONE, TWO = Signer("a"), Signer("b")
CLOCK = 1_700_000_000.0
NONCE = bytes(range(32))
SECRET = hashlib.sha256(b"secret").digest()

HEAD = """# Vectors of the mesh

Made by `python -m tests.mesh.vectors`; `tests/mesh/test_vectors.py` holds this page to the code. [mesh.md](mesh.md) says what the
messages mean. Fields stand in the order of the array; the last ones may be missing if they are marked with their default. `bytes 32` has that
length, `bytes ≤ n` and `text ≤ n` at most so many bytes or characters, `int < n` is from 0 on. The frames are examples with made-up values.
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
    parts.append("## Signatures\n")
    for title, data in signed():
        parts += [f"{title}:\n", block(data)]
    return "\n".join(parts)


def block(data: bytes) -> str:
    """Lay bytes out in lines of 48."""
    lines = [data[at : at + 48].hex() for at in range(0, len(data), 48)]
    return "```\n" + "\n".join(lines) + "\n```\n"


def fields(kind: type[Message]) -> list[tuple[str, str]]:
    """Return what a message's array holds, in order."""
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
            return f"bytes {high}" if low == high else f"bytes ≤ {high}" if high else "bytes"
        case inspect.StrType(max_length=high):
            return f"text ≤ {high}"
        case inspect.BoolType():
            return "boolean"
        case inspect.IntType(ge=low, lt=below, le=most):
            begin = f"{low} to " if low else "≤ "
            return f"int {begin}{most}" if most is not None else f"int < 2^{below.bit_length() - 1}"
        case inspect.VarTupleType(item_type=item, max_length=most):
            return f"array of at most {most}: {said_of(item)}"
        case inspect.StructType(fields=inner):
            return (
                "[" + ", ".join(f"{f.name}: {said_of(f.type)}{default_of(f)}" for f in inner) + "]"
            )
        case _:
            raise AssertionError(f"no words for {kind}")


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
