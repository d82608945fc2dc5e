"""Debian repositories, for apt, dpkg's tools, dput and debootstrap.

Spec: Debian repository format (wiki.debian.org/DebianRepository/Format), Debian Policy.
"""

from __future__ import annotations

from dataclasses import replace

from formats.contract import BLOB, Format, Route, Scope
from formats.debian import describing, incoming, mirroring, reading, writing
from formats.debian.releases import RELEASES
from formats.debian.upstream import REMOTE
from formats.debian.virtual import VIRTUAL

POOL = "/pool/{component}/{path*}"
APT = """\
# The repository's key, once:
curl -fsSL -u {user}:{token} {url}/gpg-key.asc -o /etc/apt/keyrings/{key}.asc

# /etc/apt/sources.list.d/{key}.sources
Types: deb
URIs: {url}
Suites: stable
Components: main
Signed-By: /etc/apt/keyrings/{key}.asc

# /etc/apt/auth.conf.d/{key}.conf (mode 600; only needed for private repositories)
machine {url}
login {user}
password {token}
"""
DPUT = """\
# ~/.dput.cf, for dput-ng
# The older dput takes "fqdn = {host}" and "login = {user}", and asks for the token.
[{key}]
fqdn = {user}:{token}@{host}
method = {http:http}{https:https}
incoming = {path}/incoming
allow_unsigned_uploads = 1

# dput -U {key} demo_1.0_amd64.changes    (-U: no log file, which would hold the token)
# Without dput, to the suite stable:
curl -fsS -u {user}:{token} -T demo_1.0_amd64.deb {url}/pool/main/
"""

FORMAT = Format(
    name="debian",
    keys=("debian",),
    mounts=("/debian",),
    purl_type="deb",
    routes=(
        Route("GET", "/gpg-key.asc", reading.public_key),
        Route("GET", "/dists/{dist}/gpg-key.asc", reading.public_key),
        Route("GET", "/dists/{dist}/{path*}", reading.suite_document),
        Route("GET", POOL, reading.pool_file),
        Route("PUT", POOL, writing.put_pool, Scope.WRITE, BLOB),
        Route("DELETE", POOL, writing.delete_pool, Scope.DELETE),
        Route("POST", "/upload", writing.post_upload, Scope.WRITE, BLOB),
        Route("PUT", "/incoming/{file}", incoming.put_incoming, Scope.WRITE, BLOB),
        Route("GET", "/by-hash/{algorithm}/{digest}", reading.flat_by_hash),
        Route("GET", "/./by-hash/{algorithm}/{digest}", reading.flat_by_hash),
        Route("GET", "/./{file}", reading.flat_document),
        Route("GET", "/{file}", reading.flat_document),
        Route("GET", "/{path*}", reading.other_file),
    ),
    checksums=("md5", "sha1"),
    client_settings={"apt": APT, "dput": DPUT},
    remote=replace(REMOTE, wishes=mirroring.wishes, follow=mirroring.follow),
    virtual=VIRTUAL,
    releases=RELEASES,
    describe=describing.DESCRIBE,
    primary=("deb", "dsc"),
)
