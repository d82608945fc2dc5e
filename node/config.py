"""Configuration: one typed model, filled from defaults, a TOML file, ``ATOLL_*`` and flags.

Later origins win, in that order.  ``atoll config`` prints every effective value with its origin.
An environment name is ``ATOLL_`` + section + ``_`` + key (``ATOLL_HTTP_LISTEN``); top-level keys
have no section (``ATOLL_DATA``).
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesh.limits import parse_all
from node.upstream.guard import as_network
from node.upstream.settings import judge_url
from store.errors import RejectedError

PREFIX = "ATOLL_"
INDEX_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")


class ConfigError(RejectedError):
    """The configuration cannot be used; the message names the key and the place."""


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP front: where it listens, how it is reached, what it tolerates."""

    listen: str = "127.0.0.1:8080"
    external_url: str = ""  # absolute URL clients use; empty: from trusted headers, else Host
    trusted_proxies: tuple[str, ...] = ()  # CIDRs whose X-Forwarded-* is believed
    tls: str = "off"  # off | auto (a certificate made by the node) | files
    tls_certificate: str = ""
    tls_key: str = ""
    drain: float = 10.0  # seconds that requests in flight get at a stop
    upload_max: int = 0  # bytes of one body; 0: no limit beyond quota and disk
    connections_max: int = 2000
    connections_per_address_max: int = 512


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where facts are kept; empty: SQLite in the data directory."""

    url: str = ""


class Blobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where blobs are kept."""

    backend: str = "files"  # files | s3
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    gc_interval: float = 3600.0
    gc_grace: float = 86400.0
    retention_interval: float = 86400.0
    quota_bytes: int = 0  # of all repositories, beyond which no publish is taken here; 0: no bound
    quota_files: int = 0
    budget: int = 0  # bytes beyond which what is not needed here is evicted; 0: no bound


class Mesh(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The peers' side: where it listens, what it fetches unasked, which carriers it has."""

    listen: str = "127.0.0.1:0"
    advertise: tuple[str, ...] = ()  # addresses peers should dial; empty: the bound one
    site: str = "default"
    name: str = ""
    replicate: str = "on-demand"  # on-demand | everywhere
    peers: tuple[str, ...] = ()  # addresses to dial besides those that are found
    mdns: str = "auto"  # off | auto (when listening beyond loopback) | on
    relay: str = "on"  # on | off: carry streams of members that cannot dial each other
    relay_rate: int = 8_000_000  # bytes per second of that, all together; 0: no cap
    relay_pair_rate: int = 4_000_000  # and for two members; 0: no cap
    relay_streams: int = 64
    libp2p: str = "off"  # off | auto (where installed, once a peer needs it) | on
    libp2p_listen: str = ""  # HOST:PORT; empty: the host of ``listen``, any port
    upload_rate: int = 0  # bytes per second of chunks to peers; 0: no cap
    sockets_max: int = 4  # TCP connections that chunks to a peer may take where packets get lost
    links: tuple[str, ...] = ()  # rules: "site:NAME up=2Mbit metered hours=22:00-06:00"
    courier: str = "auto"  # auto (by role) | on | off: carry between sites never up together
    courier_budget: int = 4 << 30  # bytes that may lie here only to be carried
    delta_budget: int = 256 << 20  # bytes of deltas between versions; 0: none made, none taken
    repair_rate: int = 0  # bytes per second that policies may fetch; 0: no cap
    absent: float = 259200.0  # seconds without a sign of a member until others stand in for it
    wait: float = 30.0  # seconds a client waits for the first byte of a blob that is elsewhere


class Upstreams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How this node asks the upstreams of remote repositories."""

    allow: tuple[str, ...] = ()  # networks, addresses and host names that are private, yet asked
    offline: bool = False  # ask nobody; serve what the mesh has
    proxy: str = ""  # http(s) proxy for upstreams that name none
    ca_file: str = ""  # certificate authorities to trust beside the system's


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what before anybody has configured anything."""

    anonymous_read: bool = True  # of public repositories
    admin_password: str = ""  # first start only; empty: a random one in DATA/admin.password
    token_minutes: int = 30  # life of a JWT access token
    login_attempts: int = 10  # per user and address in 15 minutes
    writes_per_minute: int = 6000  # per principal or address
    searches_per_minute: int = 600  # the same


class Searching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Meilisearch server to ask before the node's own index; empty: none."""

    meilisearch_url: str = ""
    meilisearch_key: str = ""
    meilisearch_index: str = "atoll"


class Hooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where webhooks may lead."""

    allow: tuple[str, ...] = ()  # networks, addresses and host names that are private, yet told


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Structured logs on standard error."""

    level: str = "info"
    format: str = "auto"  # auto | json | text


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a node can be told."""

    data: str = "atoll-data"
    http: Http = Http()
    database: Database = Database()
    blobs: Blobs = Blobs()
    mesh: Mesh = Mesh()
    access: Access = Access()
    upstream: Upstreams = Upstreams()
    search: Searching = Searching()
    webhooks: Hooks = Hooks()
    log: Log = Log()

    @property
    def path(self) -> Path:
        """The data directory."""
        return Path(self.data)


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value and where it came from."""

    key: str
    value: object
    origin: str


def _keys(model: type[msgspec.Struct], prefix: str = "") -> dict[str, Any]:
    """Dotted key → type, for every leaf of the model."""
    found: dict[str, Any] = {}
    for each in msgspec.structs.fields(model):
        if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct):
            found |= _keys(each.type, f"{prefix}{each.encode_name}.")
        else:
            found[f"{prefix}{each.encode_name}"] = each.type
    return found


KEYS = _keys(Config)
# Never printed:
SECRET = frozenset({"access.admin_password", "database.url", "search.meilisearch_key"})
FOREIGN = frozenset({"ATOLL_CONFIG", "ATOLL_TOKEN"})  # of commands, and no setting
FILE = "atoll.toml"  # in the data directory: read when no other file is named

CHOICES: Mapping[str, tuple[str, ...]] = {
    "http.tls": ("off", "auto", "files"),
    "blobs.backend": ("files", "s3"),
    "mesh.replicate": ("on-demand", "everywhere"),
    "mesh.mdns": ("off", "auto", "on"),
    "mesh.relay": ("on", "off"),
    "mesh.libp2p": ("off", "auto", "on"),
    "mesh.courier": ("off", "auto", "on"),
    "log.format": ("auto", "json", "text"),
    "log.level": ("debug", "info", "warning", "error"),
}
LEAST: Mapping[str, float] = {
    "http.drain": 0,
    "http.upload_max": 0,
    "http.connections_max": 1,
    "http.connections_per_address_max": 1,
    "blobs.gc_interval": 0,  # 0: never
    "blobs.gc_grace": 0,
    "blobs.retention_interval": 0,  # 0: never
    "blobs.quota_bytes": 0,
    "blobs.quota_files": 0,
    "blobs.budget": 0,
    "mesh.wait": 0,
    "mesh.sockets_max": 1,
    **dict.fromkeys(("mesh.relay_rate", "mesh.relay_pair_rate", "mesh.repair_rate"), 0),
    "mesh.relay_streams": 1,
    "mesh.courier_budget": 0,
    "mesh.delta_budget": 0,
    "mesh.absent": 60,
    "access.token_minutes": 1,
    "access.login_attempts": 1,
    "access.writes_per_minute": 1,
    "access.searches_per_minute": 1,
}
NEEDED: Mapping[str, tuple[tuple[str, str], str]] = {
    "http.tls_certificate": (("http.tls", "files"), "with http.tls = files"),
    "http.tls_key": (("http.tls", "files"), "with http.tls = files"),
    "blobs.bucket": (("blobs.backend", "s3"), "with blobs.backend = s3"),
}


def _flatten(document: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _check(key: str, origin: str) -> None:
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.0)
        raise ConfigError(f"{origin}: unknown key {key!r}; did you mean {near[0]!r}?")


def _from_file(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from error
    return _flatten(document)


def _usual_file(environment: Mapping[str, str], flags: Mapping[str, object]) -> Path | None:
    """The file that ATOLL_CONFIG names, or else the data directory's own, if it has one."""
    if named := environment.get("ATOLL_CONFIG"):
        return Path(named)
    data = flags.get("data") or environment.get("ATOLL_DATA") or Config().data
    own = Path(str(data)) / FILE
    return own if own.is_file() else None


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    names = {PREFIX + key.replace(".", "_").upper(): key for key in KEYS}
    found: dict[str, object] = {}
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in FOREIGN:
            continue
        if name == "ATOLL_ADMIN_PASSWORD":
            found["access.admin_password"] = value
        elif name in names:
            found[names[name]] = value
        else:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            raise ConfigError(f"environment: unknown name {name}; did you mean {near[0]}?")
    return found


def _convert(key: str, value: object, origin: str) -> object:
    kind = KEYS[key]
    if isinstance(value, str) and kind is bool:
        words = dict.fromkeys(("1", "true", "yes", "on"), True)
        words |= dict.fromkeys(("0", "false", "no", "off"), False)
        value = words.get(value.lower(), value)
    elif isinstance(value, str) and kind not in (str, int, float):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {key}: {error}") from error


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
) -> tuple[Config, list[Setting]]:
    """Merge the origins.  Raises ConfigError, naming the nearest known key for an unknown one."""
    origins: list[tuple[str, dict[str, object]]] = []
    file = file or _usual_file(environment, flags)
    if file is not None:
        origins.append((str(file), _from_file(file)))
    origins.append(("environment", _from_environment(environment)))
    origins.append(("flag", {key: value for key, value in flags.items() if value is not None}))
    chosen: dict[str, tuple[object, str]] = {}
    for origin, values in origins:
        for key, value in values.items():
            _check(key, origin)
            chosen[key] = (_convert(key, value, origin), origin)
    nested: dict[str, Any] = {}
    for key, (value, _) in chosen.items():
        section, _, leaf = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[leaf] = value
    config = msgspec.convert(nested, Config)
    _judge(config)
    return config, _effective(config, chosen)


def _judge(config: Config) -> None:
    """Refuse values that make no sense, before anything is opened.  Raises ConfigError."""
    for key, allowed in CHOICES.items():
        value = _value(config, key)
        if value not in allowed:
            raise ConfigError(f"{key}: {value!r} is not one of {', '.join(allowed)}")
    for key, least in LEAST.items():
        number = float(_value(config, key))
        if not math.isfinite(number) or number < least:
            raise ConfigError(f"{key}: {number:g} is less than {least:g}")
    for key, (condition, needed) in NEEDED.items():
        if _value(config, condition[0]) == condition[1] and not _value(config, key):
            raise ConfigError(f"{key} is needed {needed}")
    split_address(config.http.listen)
    split_address(config.mesh.listen)
    split_address(config.mesh.libp2p_listen or config.mesh.listen)
    _judge_addresses(config.http)
    _judge_upstreams(config.upstream)
    _judge_search(config.search)
    _judge_allowed("webhooks.allow", config.webhooks.allow)
    try:
        parse_all(config.mesh.links)
    except RejectedError as error:
        raise ConfigError(f"mesh.links: {error}") from None


def _value(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def _judge_allowed(name: str, allowed: tuple[str, ...]) -> None:
    for each in allowed:
        try:
            as_network(each)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None


def _judge_upstreams(upstream: Upstreams) -> None:
    _judge_allowed("upstream.allow", upstream.allow)
    if upstream.proxy:
        judge_url(upstream.proxy, "upstream.proxy")


def _judge_search(search: Searching) -> None:
    if search.meilisearch_url:
        judge_url(search.meilisearch_url, "search.meilisearch_url")
    if not INDEX_NAME.fullmatch(search.meilisearch_index):
        raise ConfigError("search.meilisearch_index: letters, digits, - and _ only")


def _judge_addresses(http: Http) -> None:
    for each in http.trusted_proxies:
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError as error:
            raise ConfigError(f"http.trusted_proxies: {error}") from None
    if http.external_url:
        parts = urlsplit(http.external_url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query:
            raise ConfigError(f"http.external_url: not an absolute URL: {http.external_url!r}")


def _effective(config: Config, chosen: Mapping[str, tuple[object, str]]) -> list[Setting]:
    flat = _flatten(msgspec.to_builtins(config))
    return [
        Setting(
            key,
            "(set)" if key in SECRET and flat[key] else flat[key],
            chosen[key][1] if key in chosen else "default",
        )
        for key in sorted(KEYS)
    ]


def split_address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` (``[::1]:80`` for IPv6).  Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and len(port) < 6) or int(port) > 65535:
        raise ConfigError(f"not HOST:PORT: {text!r}")
    return host.strip("[]"), int(port)
