"""Webhook secrets, addresses and signatures.  Pure.

A signature is ``t=SECONDS,v1=HEX``: HMAC-SHA256 under the secret over ``SECONDS.`` and the body.
For a day after a secret was changed both sign, so that receivers can change theirs in that time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

PREFIX = "whsec_"
GRACE = 86400.0  # seconds that a former secret goes on signing


class Secrets(msgspec.Struct, omit_defaults=True):
    """What is sealed to the node that delivers."""

    current: str
    former: str = ""
    until: float = 0.0  # that the former one signs

    def __repr__(self) -> str:
        """Nothing that a log could keep."""
        return "Secrets(…)"

    def active(self, now: float) -> list[str]:
        """The secrets that sign now."""
        return [self.current, *([self.former] if self.former and now < self.until else [])]


def make_secret() -> str:
    """A new secret of 256 bits."""
    return PREFIX + secrets.token_urlsafe(32)


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """One signature, in hexadecimal."""
    message = str(timestamp).encode() + b"." + body
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def header(held: Secrets, now: float, body: bytes) -> str:
    """The signature header of a delivery."""
    timestamp = int(now)
    signed = [f"v1={sign(each, timestamp, body)}" for each in held.active(now)]
    return ",".join([f"t={timestamp}", *signed])


def seal(held: Secrets, sealer: Callable[[bytes], bytes]) -> str:
    """Secrets as the ledger keeps them."""
    return base64.b64encode(sealer(msgspec.json.encode(held))).decode()


def seal_url(url: str, sealer: Callable[[bytes], bytes]) -> str:
    """An address as the ledger keeps it."""
    return base64.b64encode(sealer(url.encode())).decode()


def unseal_url(sealed: str, opener: Callable[[bytes], bytes]) -> str:
    """An address again.  Raises what ``opener`` raises, and ValueError for what is damaged."""
    return opener(base64.b64decode(sealed)).decode()


def shown(url: str) -> str:
    """What may be told of an address: where it leads, not what lets one in there."""
    parts = urlsplit(url)
    more = parts.path not in {"", "/"} or bool(parts.query)
    return f"{parts.scheme}://{parts.netloc}/{'…' if more else ''}"


def unseal(sealed: str, opener: Callable[[bytes], bytes]) -> Secrets:
    """Secrets again.  Raises what ``opener`` raises, and RejectedError for what is damaged."""
    return msgspec.json.decode(opener(base64.b64decode(sealed)), type=Secrets)
