"""A data directory stays with its database and blobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import Blobs, Config, ConfigError, Database
from node.settled import FILE, settle

URL = "postgresql+asyncpg://atoll:secret@db.example/atoll"


def config(folder: Path, url: str = "", **blobs: str) -> Config:
    return Config(data=str(folder), database=Database(url=url), blobs=Blobs(**blobs))


def test_a_forgotten_configuration_file_is_noticed(tmp_path: Path) -> None:
    """A command without it opened an empty database with the node's key."""
    settle(config(tmp_path, URL))
    with pytest.raises(ConfigError, match=r"keeps its database in 'postgresql atoll'.*--config"):
        settle(config(tmp_path))
    settle(config(tmp_path, URL.replace("db.example", "other.example").replace("secret", "new")))
    assert "secret" not in (tmp_path / FILE).read_text()


def test_so_is_another_bucket(tmp_path: Path) -> None:
    settle(config(tmp_path))
    settle(config(tmp_path))
    with pytest.raises(ConfigError, match="keeps its blobs in 'files'"):
        settle(config(tmp_path, backend="s3", bucket="b"))
    (tmp_path / FILE).unlink()
    settle(config(tmp_path, backend="s3", bucket="b", prefix="p"))
    with pytest.raises(ConfigError, match="s3 b/p"):
        settle(config(tmp_path, backend="s3", bucket="b"))


def test_what_makes_no_sense_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a database URL"):
        settle(config(tmp_path, "what?"))
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ConfigError, match=FILE):
        settle(config(tmp_path))
