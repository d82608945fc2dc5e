"""OpenPGP signing keys of repositories, kept sealed in the ledger and used through GnuPG.

A key is made when a repository first signs.  Its private half is stored only as boxes sealed to the
members' node keys (PyNaCl SealedBox), so every member that may sign does, and with the same bytes:
Ed25519 signatures are deterministic and their time is the index's ledger time.  GnuPG works in a
private temporary home, which is gone when the node stops, or at its next start after a crash.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog
import trio

from node.sealing import Safe, Sealer, Settings, Write
from store.disk import disk_errors
from store.errors import UnavailableError

log = structlog.get_logger(__name__)
KIND = "signing-key"
PREFIX = "atoll-gpg-"
BORN = 1577836800  # 2020-01-01: keys must be older than any index they sign


class SigningKey(msgspec.Struct):
    """A repository's key as it stands in the ledger."""

    fingerprint: str
    public: str  # armoured
    sealed: dict[str, str]  # node id → base64 of the sealed armoured private key


class Keyring:
    """GnuPG in a temporary home, and the keys of the ledger in it."""

    def __init__(
        self, settings: Settings, sealer: Sealer, write: Write, marker: Path | None = None
    ) -> None:
        """``marker`` is a file that names the home, so that one left by a crash is found."""
        self._safe = Safe(KIND, SigningKey, settings, sealer, write)
        self._marker = marker
        self._home: Path | None = None
        self._imported: set[str] = set()
        self._lock = trio.Lock()

    async def __aenter__(self) -> Self:
        if self._marker is not None and self._marker.exists():
            await trio.to_thread.run_sync(_dispose_left, self._marker)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._home is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await trio.to_thread.run_sync(_dispose, self._home)
                if self._marker is not None:
                    self._marker.unlink(missing_ok=True)

    def signer(self, repository: str) -> RepositorySigner:
        """The signer of one repository."""
        return RepositorySigner(self, repository)

    async def key(self, repository: str) -> SigningKey:
        """The repository's key, made if there is none.  Raises UnavailableError without GnuPG."""
        async with self._lock:
            return await self._safe.get(repository) or await self._make(repository)

    async def _make(self, repository: str) -> SigningKey:
        home = await self._gnupg_home()
        fingerprint, public, private = await trio.to_thread.run_sync(_generate, home, repository)
        key = SigningKey(fingerprint, public.decode(), self._safe.boxes(private))
        await self._safe.put(repository, key)
        self._imported.add(fingerprint)
        log.info("made a signing key", repository=repository, fingerprint=fingerprint)
        return key

    async def share(self) -> int:
        """Seal keys this node can open to members that joined since; returns how many changed."""
        return await self._safe.share()

    async def sign(self, repository: str, data: bytes, *, time: float, clear: bool) -> bytes:
        """Sign with the repository's key at a given time.  Raises UnavailableError without it."""
        key = await self.key(repository)
        async with self._lock:
            home = await self._gnupg_home()
            if key.fingerprint not in self._imported:
                await self._import(home, key)
            sign = partial(_sign, home, key.fingerprint, data, time=int(time), clear=clear)
            return await trio.to_thread.run_sync(sign)

    async def _import(self, home: Path, key: SigningKey) -> None:
        private = self._safe.open(key)
        if private is None:
            raise UnavailableError("this node does not hold the repository's signing key yet")
        await trio.to_thread.run_sync(_import_private, home, private)
        self._imported.add(key.fingerprint)

    async def _gnupg_home(self) -> Path:
        if shutil.which("gpg") is None:
            raise UnavailableError("signing needs GnuPG: install the package gnupg")
        if self._home is None:
            # Not in the data directory: the agent's socket path must stay below 108 bytes.
            self._home = Path(await trio.to_thread.run_sync(tempfile.mkdtemp, "", PREFIX))
            if self._marker is not None:
                with disk_errors():
                    self._marker.write_text(str(self._home))
        return self._home


class RepositorySigner:
    """The ``Signer`` of the format contract."""

    def __init__(self, keyring: Keyring, repository: str) -> None:
        self._keyring, self._repository = keyring, repository

    async def public_key(self) -> bytes:
        """The armoured public key."""
        return (await self._keyring.key(self._repository)).public.encode()

    async def clear_sign(self, text: bytes, *, time: float) -> bytes:
        """An inline-signed message."""
        return await self._keyring.sign(self._repository, text, time=time, clear=True)

    async def detach_sign(self, data: bytes, *, time: float) -> bytes:
        """An armoured detached signature."""
        return await self._keyring.sign(self._repository, data, time=time, clear=False)


def _generate(home: Path, repository: str) -> tuple[str, bytes, bytes]:
    gpg = _open(home, ["--faked-system-time", f"{BORN}!"])
    parameters = gpg.gen_key_input(
        key_type="EDDSA",
        key_curve="ed25519",
        key_usage="sign",
        name_real=f"Atoll repository {repository}",
        name_email=f"{repository}@atoll.invalid",
        no_protection=True,
        expire_date="0",
    )
    made = gpg.gen_key(parameters)
    if not made.fingerprint:
        raise UnavailableError(f"GnuPG made no key: {made.stderr[-300:]}")
    public = gpg.export_keys(made.fingerprint)
    private = gpg.export_keys(made.fingerprint, secret=True, expect_passphrase=False)
    return made.fingerprint, public.encode(), private.encode()


def _import_private(home: Path, private: bytes) -> None:
    result = _open(home, []).import_keys(private.decode())
    if not result.fingerprints:
        raise UnavailableError("GnuPG refused the repository's signing key")


def _sign(home: Path, fingerprint: str, data: bytes, *, time: int, clear: bool) -> bytes:
    gpg = _open(home, ["--faked-system-time", f"{max(time, BORN + 1)}!"])
    result = gpg.sign(
        data,
        keyid=fingerprint,
        clearsign=clear,
        detach=not clear,
        extra_args=["--digest-algo", "SHA512"],
    )
    if not result.data:
        raise UnavailableError(f"GnuPG could not sign: {result.stderr[-300:]}")
    return bytes(result.data)


def _open(home: Path, options: Sequence[str]) -> Any:
    import gnupg  # only nodes that sign pay for it

    return gnupg.GPG(gnupghome=str(home), options=["--batch", *options])


def _dispose_left(marker: Path) -> None:
    """Remove the keys that a killed node left in its temporary home."""
    home = Path(marker.read_text().strip())
    if home.name.startswith(PREFIX) and home.is_dir() and not home.is_symlink():
        _dispose(home)
    marker.unlink(missing_ok=True)


def _dispose(home: Path) -> None:
    subprocess.run(
        ["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True
    )
    shutil.rmtree(home, ignore_errors=True)
