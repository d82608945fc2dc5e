"""Certificates of our own, and what a context made of them agrees to."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from node.http.tls import RENEWAL, VALIDITY, own_certificate, server_context

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_certificate_names_this_machine_and_what_it_is_bound_to(tmp_path: Path) -> None:
    certificate, _ = own_certificate(tmp_path / "tls", ["192.0.2.7", "Registry.example", "0.0.0.0"])
    found = load(certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    assert {"localhost", "registry.example"} <= {name.lower() for name in dns}
    assert {ipaddress.ip_address(a) for a in ("127.0.0.1", "::1", "192.0.2.7")} == set(addresses)
    public = found.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"


def test_only_the_owner_may_read_the_key(tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path / "tls", [])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {certificate.name, key.name}


def test_it_is_kept_while_it_serves(tmp_path: Path) -> None:
    first = own_certificate(tmp_path, ["a.example"], now=NOW)[0].read_bytes()
    later = NOW + VALIDITY - RENEWAL - dt.timedelta(days=1)
    assert own_certificate(tmp_path, ["a.example"], now=later)[0].read_bytes() == first


@pytest.mark.parametrize("why", ["expiry", "name", "key", "garbage"])
def test_it_is_made_anew_when_it_no_longer_serves(tmp_path: Path, why: str) -> None:
    certificate, key = own_certificate(tmp_path, ["a.example"], now=NOW)
    first, hosts, now = certificate.read_bytes(), ["a.example"], NOW
    if why == "expiry":
        now = NOW + VALIDITY - RENEWAL
    elif why == "name":
        hosts = ["b.example"]
    elif why == "key":
        key.write_bytes(own_certificate(tmp_path / "other", [])[1].read_bytes())
    else:
        certificate.write_bytes(b"garbage")
    own_certificate(tmp_path, hosts, now=now)
    assert certificate.read_bytes() != first
    server_context(certificate, key)  # they fit together again


def test_a_context_speaks_modern_tls_only(tmp_path: Path) -> None:
    context = server_context(*own_certificate(tmp_path, []))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION


def test_files_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    certificate, _ = own_certificate(tmp_path / "a", [])
    _, key = own_certificate(tmp_path / "b", [])
    with pytest.raises(ssl.SSLError):
        server_context(certificate, key)
    with pytest.raises(OSError, match="No such file"):
        server_context(tmp_path / "none", key)
