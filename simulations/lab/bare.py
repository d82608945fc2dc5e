"""The floor of a transfer: one trio TLS socket that sends a file, one that hashes and writes it.

``python -m simulations.lab.bare serve ADDRESS FILE`` and ``… fetch ADDRESS FILE``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
import sys
import tempfile
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

PORT = 7700
PIECE = 1 << 18


def certificate(folder: Path) -> Path:
    """Make a key and a certificate for it in one file."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bare")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1))
    made = builder.not_valid_after(now + dt.timedelta(days=1)).sign(key, None)
    file = folder / "bare.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


async def serve(address: str, file: Path) -> None:
    """Send the file to whoever connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(certificate(Path(folder)))
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    async def send(raw: trio.SocketStream) -> None:
        stream = trio.SSLStream(raw, context, server_side=True, https_compatible=True)
        with file.open("rb") as content:
            while data := content.read(PIECE):
                await stream.send_all(data)
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(PORT, host=address)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await trio.serve_listeners(send, listeners)


async def fetch(address: str, file: Path) -> None:
    """Receive, hash and write until the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await trio.to_thread.run_sync(sys.stdin.readline)  # the clock begins when everything is loaded
    raw = await trio.open_tcp_stream(address, PORT)
    stream = trio.SSLStream(raw, context, https_compatible=True)
    digest = hashlib.sha256()
    with file.open("wb") as target:
        while data := await stream.receive_some(PIECE):
            digest.update(data)
            target.write(data)


if __name__ == "__main__":
    trio.run({"serve": serve, "fetch": fetch}[sys.argv[1]], sys.argv[2], Path(sys.argv[3]))
