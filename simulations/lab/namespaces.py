"""Network namespaces of the lab, each with one TUN device whose other end we hold.

Everything made here bears a prefix that no other run has, and only that is ever deleted.  Needs
root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import struct
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
DEVICE = "lab0"
NETWORK = "10.213.7"  # inside the namespaces only
QUEUE = 1000  # packets


def why_not() -> str:
    """Return why the lab cannot run here, or "" if it can."""
    if os.geteuid() != 0:
        return "the network lab needs root"
    if not Path("/dev/net/tun").exists():
        return "the network lab needs /dev/net/tun"
    probe = f"atoll-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    except FileNotFoundError:
        return "the network lab needs iproute2"
    if made.returncode:
        return f"no namespace can be made here: {made.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return ""


def address(index: int) -> str:
    """Return the address of a node."""
    return f"{NETWORK}.{index + 1}"


def prefix() -> str:
    """Return a prefix for the namespaces of one run."""
    return f"atoll-{os.getpid()}-{secrets.token_hex(3)}"


class Namespaces:
    """The namespaces of one run.  Use as a context: they are gone afterwards."""

    def __init__(self, name: str, count: int, mtu: int, congestion: str = "") -> None:
        self.names = [f"{name}-{index}" for index in range(count)]
        self.tuns: list[int] = []
        self._mtu, self._congestion = mtu, congestion
        self._made: list[str] = []

    def __enter__(self) -> Self:
        try:
            for index, name in enumerate(self.names):
                self._make(index, name)
        except BaseException:  # cancelled, too
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was made."""
        for tun in self.tuns:
            os.close(tun)
        self.tuns = []
        while self._made:
            subprocess.run(["ip", "netns", "del", self._made.pop()], check=False)

    def _make(self, index: int, name: str) -> None:
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._made.append(name)
        self.tuns.append(open_tun(name))
        ip = ["ip", "-n", name]
        subprocess.run([*ip, "addr", "add", f"{address(index)}/24", "dev", DEVICE], check=True)
        link = ["mtu", str(self._mtu), "txqueuelen", str(QUEUE), "up"]
        subprocess.run([*ip, "link", "set", DEVICE, *link], check=True)
        subprocess.run([*ip, "link", "set", "lo", "up"], check=True)
        if self._congestion:  # locked: what a program asks of its sockets does not change it
            network = [f"{NETWORK}.0/24", "dev", DEVICE, "proto", "kernel", "scope", "link"]
            pinned = ["src", address(index), "congctl", "lock", self._congestion]
            subprocess.run([*ip, "route", "change", *network, *pinned], check=True)


def open_tun(name: str) -> int:
    """Make a TUN device in a namespace; return our end, non-blocking.  Raises OSError."""
    with within(name):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(tun, TUNSETIFF, request)
    return tun


@contextmanager
def within(name: str) -> Generator[None]:
    """Let this thread make its sockets in a namespace, for the length of the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        _enter(libc, there)
        try:
            yield
        finally:
            _enter(libc, here)
    finally:
        os.close(there)
        os.close(here)


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
