"""The certificate that is written by hand, read by those who read any."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from mesh.carriers.certificate import certificate, certified_key, der, pem


@given(st.binary(min_size=32, max_size=32))
def test_it_carries_the_key_and_is_signed_with_it(seed: bytes) -> None:
    made = certificate(seed)
    found = x509.load_pem_x509_certificate(made)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert found.public_key() == key.public_key()
    found.verify_directly_issued_by(found)
    assert found.version is x509.Version.v3
    assert 0 < found.serial_number < 1 << 128
    assert (found.not_valid_before_utc.year, found.not_valid_after_utc.year) == (2020, 9999)
    private = load_pem_private_key(made[made.index(b"-----BEGIN PRIVATE") :], None)
    assert isinstance(private, Ed25519PrivateKey)
    assert private.private_bytes_raw() == seed


def test_the_key_of_the_other_end_is_read() -> None:
    data = ssl.PEM_cert_to_DER_cert(certificate(bytes(32)).decode().partition("-----BEGIN PR")[0])
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    assert certified_key(data) == public.public_bytes_raw()


def test_what_is_no_certificate_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match=r".+"):
        certified_key(b"\x30\x03\x02\x01\x00")


def test_a_key_of_another_kind_is_nobodys(tmp_path_factory: pytest.TempPathFactory) -> None:
    from node.http.tls import own_certificate

    folder = tmp_path_factory.mktemp("tls")
    path, _ = own_certificate(folder, ["a.example"])
    found = x509.load_pem_x509_certificate(path.read_bytes())
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)
    assert certified_key(ssl.PEM_cert_to_DER_cert(path.read_text())) is None


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100")],
)
def test_lengths_are_the_shortest(size: int, head: str) -> None:
    assert der(4, bytes(size))[: len(head) // 2].hex() == head


def test_lines_are_what_openssl_reads() -> None:
    text = pem(b"X", bytes(100))
    assert text.startswith(b"-----BEGIN X-----\n")
    assert max(map(len, text.splitlines())) <= 76
