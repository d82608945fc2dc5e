"""TLS for the HTTP port: a given certificate, or one the node makes for itself.

A certificate of our own makes the port confidential and lets a client pin it; it proves no name
to anybody else.  ECDSA P-256, because some package clients' TLS does not know Ed25519.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALPN: Final = ("h2", "http/1.1")
VALIDITY: Final = dt.timedelta(days=825)  # the longest Apple's clients accept, for any root
RENEWAL: Final = dt.timedelta(days=30)
BACKDATE: Final = dt.timedelta(hours=1)  # clients' clocks differ
WILDCARDS: Final = frozenset(("", "0.0.0.0", "::"))  # not addresses a client could ask for


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server context: TLS 1.2 or later, HTTP/2 preferred.

    Raises OSError if a file cannot be read, ssl.SSLError if they do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(ALPN))
    context.load_cert_chain(certificate, key)
    return context


def own_certificate(
    folder: Path, hosts: Sequence[str], *, now: dt.datetime | None = None
) -> tuple[Path, Path]:
    """Return certificate and key files in ``folder``, made or renewed where necessary.

    The certificate names localhost, this machine, and ``hosts`` (names or addresses that the node
    is bound to or known by); it is made anew when it lacks one of them or is about to expire.
    The key is replaced with it.  Raises OSError.
    """
    now = now or dt.datetime.now(dt.UTC)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = _subject_names(hosts)
    if not _serves(certificate, key, names, now):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = ec.generate_private_key(ec.SECP256R1())
        _write(
            key,
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        _write(certificate, _certify(private, names, now))
    return certificate, key


def _subject_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    wanted = ["localhost", socket.gethostname(), "127.0.0.1", "::1", *hosts]
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(wanted):
        if host in WILDCARDS:
            continue
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host.encode("idna").decode("ascii")))
    return names


def _serves(certificate: Path, key: Path, names: list[x509.GeneralName], now: dt.datetime) -> bool:
    """Whether a usable pair is there already."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        covered = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        set(names) <= set(covered)
        and found.not_valid_before_utc <= now < found.not_valid_after_utc - RENEWAL
        and found.public_key() == private.public_key()
    )


def _certify(
    private: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], now: dt.datetime
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Atoll node")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(private, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, data: bytes) -> None:
    """Replace a file at once, readable by its owner only from its first byte."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
