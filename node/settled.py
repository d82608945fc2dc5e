"""Where a data directory's facts and blobs are: the same place at every start, or none at all.

A command that forgets the configuration file would otherwise open an empty SQLite database beside
a node's PostgreSQL, with that node's key, and found a second mesh in its name.
"""

from __future__ import annotations

import json

import sqlalchemy as sa

from node.config import Config, ConfigError

FILE = "stores.json"


def places(config: Config) -> dict[str, str]:
    """Name the stores, without secrets and without what may change, such as hosts."""
    database = "sqlite"
    if config.database.url:
        try:
            url = sa.engine.make_url(config.database.url)
        except sa.exc.ArgumentError:
            raise ConfigError("database.url: not a database URL") from None
        database = f"{url.get_backend_name()} {url.database or ''}".strip()
    blobs = "files"
    if config.blobs.backend == "s3":
        blobs = f"s3 {config.blobs.bucket}/{config.blobs.prefix}"
    return {"database": database, "blobs": blobs}


def settle(config: Config) -> None:
    """Note the places at the first start.  Raises ConfigError when they are others later."""
    file, now = config.path / FILE, places(config)
    try:
        before = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        file.write_text(json.dumps(now) + "\n", "utf-8")
        return
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    for name, place in now.items():
        if before.get(name, place) != place:
            raise ConfigError(
                f"{config.path} keeps its {name} in {before[name]!r}, not in {place!r}: give the "
                f"node's own configuration (--config, ATOLL_CONFIG or {config.path}/atoll.toml), "
                f"or delete {file.name} there if the {name} moved"
            )
