"""What TLS adds: strangers who speak something else, addresses, certificates."""

from __future__ import annotations

import ssl
import sys

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mesh.carrier import Accepted
from mesh.carriers.tls import TlsCarrier, certificate, delivered, format_address, parse_address
from tests.mesh.keys import Signer
from tests.mesh.nodes import until

A, B = Signer("a"), Signer("b")


async def refuse(accepted: Accepted) -> None:
    raise AssertionError("nobody should get this far")


@pytest.mark.parametrize("address", ["tls://h:1", "h:1", "tls://[::1]:443"])
def test_addresses_are_read(address: str) -> None:
    host, port = parse_address(address)
    assert parse_address(format_address(host, port)) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        *["", "tls://", "h", "http://h:1", "tls://h:99999", "h:x"],
        *["tls://[", "tls://[::1", "tls://\u2100.example:1"],
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(OSError):
        parse_address(address)


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 70, "\u0663.1.1.1", "a\0b", "\ud800"])
async def test_a_host_that_no_name_service_could_know_is_an_address_that_fails(host: str) -> None:
    """Members write their own addresses, and whoever dials them must outlive that."""
    with pytest.raises(OSError):
        await TlsCarrier(A.seed).dial(f"tls://{host}:1")


def test_the_certificate_carries_the_node_key() -> None:
    key = x509.load_pem_x509_certificate(certificate(A.seed)).public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert key.public_bytes_raw() == A.key


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
async def test_the_kernel_tells_what_has_arrived(nursery: trio.Nursery) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    sender = await trio.open_tcp_stream(*address)
    receiver = await listener.accept()
    nursery.start_soon(sender.send_all, bytes(1_000_000))
    here = 0
    while here < 1_000_000:
        here += len(await receiver.receive_some())

    async def acknowledged() -> bool:
        told = delivered(sender.socket)
        return told is not None and told[0] >= here

    await until(acknowledged)
    found = delivered(sender.socket)
    assert found is not None
    acked, busy, best = found
    assert here <= acked <= here + 1  # the greeting counts
    assert 0 <= busy < 5  # counted in ticks of the kernel
    assert best > 1_000_000
    assert delivered(None) is None
    for stream in (sender, receiver, listener):
        await stream.aclose()


async def test_plain_text_gets_nowhere(nursery: trio.Nursery) -> None:
    (address,) = await nursery.start(TlsCarrier(B.seed, listen=[("127.0.0.1", 0)]).serve, refuse)
    stream = await trio.open_tcp_stream(*parse_address(address))
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    while await stream.receive_some():
        pass  # an alert, then the end
    await stream.aclose()


async def test_tls_1_2_gets_nowhere(nursery: trio.Nursery) -> None:
    (address,) = await nursery.start(TlsCarrier(B.seed, listen=[("127.0.0.1", 0)]).serve, refuse)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    raw = await trio.open_tcp_stream(*parse_address(address))
    with pytest.raises(trio.BrokenResourceError):
        await trio.SSLStream(raw, context).do_handshake()
    await trio.aclose_forcefully(raw)


async def test_a_server_of_another_protocol_is_not_a_node(nursery: trio.Nursery) -> None:
    """It has a certificate, but did not agree to speak our protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    carrier = TlsCarrier(A.seed)
    context.load_cert_chain(_pem_file(certificate(B.seed)))
    (listener,) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")

    async def shake(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.do_handshake()

    nursery.start_soon(trio.serve_listeners, shake, [listener])
    assert isinstance(listener.transport_listener, trio.SocketListener)
    port = listener.transport_listener.socket.getsockname()[1]
    with pytest.raises(trio.BrokenResourceError, match="not a node"):
        await carrier.dial(f"tls://127.0.0.1:{port}")


def _pem_file(pem: bytes) -> str:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(pem)
    return file.name
