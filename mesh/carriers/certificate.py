"""A node's self-signed certificate, which carries its Ed25519 key, and that of the other end.

Ours is written here, in the few lines that one fixed shape takes: the library that could do it
costs a start as much as all formats together.  What others send is read by that library.

Spec: RFC 5280 §4.1 (certificate), RFC 8410 (Ed25519 in it), RFC 5958 (private key), X.690 (DER).
"""

from __future__ import annotations

import base64
import secrets

from nacl.signing import SigningKey

ALGORITHM = bytes.fromhex("300506032b6570")  # AlgorithmIdentifier: id-Ed25519, no parameters
COMMON_NAME = bytes.fromhex("0603550403")
NAME = b"atoll node"
VERSION_3 = bytes.fromhex("a003020102")
BEGIN, END = b"200101000000Z", b"99990101000000Z"  # the key's life is not TLS's affair
INTEGER, BIT_STRING, OCTET_STRING, UTF8, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x0C, 0x30, 0x31
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SERIAL_SIZE = 16  # bytes


def certificate(seed: bytes) -> bytes:
    """Make a self-signed certificate around the node's key, in PEM, the key included."""
    key = SigningKey(seed)
    named = der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8, NAME))))
    life = der(SEQUENCE, der(UTC_TIME, BEGIN), der(GENERALIZED_TIME, END))
    serial = b"\x40" + secrets.token_bytes(SERIAL_SIZE - 1)  # positive, and no byte too long
    public = der(SEQUENCE, ALGORITHM, bits(key.verify_key.encode()))
    body = der(SEQUENCE, VERSION_3, der(INTEGER, serial), ALGORITHM, named, life, named, public)
    made = der(SEQUENCE, body, ALGORITHM, bits(key.sign(body).signature))
    secret = der(OCTET_STRING, der(OCTET_STRING, seed))
    private = der(SEQUENCE, der(INTEGER, b"\x00"), ALGORITHM, secret)
    return pem(b"CERTIFICATE", made) + pem(b"PRIVATE KEY", private)


def certified_key(data: bytes) -> bytes | None:
    """Return the raw Ed25519 key that a certificate (DER) carries; None if it is another kind.

    Raises ValueError for what is no certificate.
    """
    from cryptography import x509  # with the first link
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = x509.load_der_x509_certificate(data).public_key()
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def der(tag: int, *parts: bytes) -> bytes:
    """Encode one value of definite length (X.690 §8.1.3)."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def bits(data: bytes) -> bytes:
    """Encode a bit string of whole bytes."""
    return der(BIT_STRING, b"\x00", data)


def pem(label: bytes, data: bytes) -> bytes:
    """Write what OpenSSL reads from a file (RFC 7468)."""
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, base64.encodebytes(data), label)
