"""Where interrupted imports stand: ``DATA/bundles/<bundle id>``, the newest few of them."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import structlog
import trio

from mesh.shell.importing import Checkpoint, CheckpointPort
from store import disk
from store.errors import RegistryError

KEPT = 16
NAME = re.compile(r"[0-9a-f]{64}")
log = structlog.get_logger(__name__)


class Checkpoints(CheckpointPort):
    """Small files, written whole.  Losing one costs reading a bundle from its beginning."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self, bundle: str) -> Checkpoint | None:
        """The checkpoint of a bundle, if there is one that can be read."""
        if not NAME.fullmatch(bundle):
            return None
        try:
            data = await trio.to_thread.run_sync((self._folder / bundle).read_bytes)
            return msgspec.msgpack.decode(data, type=Checkpoint)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    async def save(self, bundle: str, checkpoint: Checkpoint) -> None:
        """Keep it; a disk that refuses costs only the checkpoint."""
        data = msgspec.msgpack.encode(checkpoint)
        try:
            await trio.to_thread.run_sync(self._write, bundle, data)
        except RegistryError as error:
            log.warning("bundle.no_checkpoint", bundle=bundle, why=str(error))

    async def forget(self, bundle: str) -> None:
        """Drop it."""
        path = self._folder / bundle
        await trio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))

    def _write(self, bundle: str, data: bytes) -> None:
        with disk.disk_errors():
            self._folder.mkdir(mode=0o700, exist_ok=True)
            disk.replace_file(self._folder / bundle, data)
            old = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in old[:-KEPT]:
                path.unlink(missing_ok=True)
