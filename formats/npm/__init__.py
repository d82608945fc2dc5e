"""npm.  Spec: npm registry API ("Package metadata", "Public registry API"), SemVer 2.0.0.

Every package route exists twice: ``@scope%2fname`` is one segment, ``@scope/name`` is two.
"""

from __future__ import annotations

from dataclasses import replace

from formats.contract import (
    DOCUMENT_MAX,
    NO_BODY,
    Body,
    BodyKind,
    Format,
    Handler,
    Response,
    Route,
    Scope,
    json_response,
)
from formats.npm import accounts, describing, mirroring, pages, search, update
from formats.npm.body import PackumentDecoder
from formats.npm.names import is_prerelease
from formats.npm.publish import put_package
from formats.npm.upstream import REMOTE
from formats.npm.virtual import VIRTUAL
from formats.releases import Releases
from store.errors import RegistryError

PACKUMENT = Body(BodyKind.DECODED, decoder=PackumentDecoder)
SMALL = Body(BodyKind.DOCUMENT, 64 << 10)
AUDIT = Body(max=DOCUMENT_MAX)  # not looked at, so never held in memory: anybody may send one


def error_body(error: RegistryError) -> Response:
    """Say it as npm shows it."""
    return json_response({"error": str(error)}, status=error.status)


def _both(
    method: str,
    before: str,
    after: str,
    handler: Handler,
    *,
    scope: Scope = Scope.READ,
    body: Body = NO_BODY,
) -> tuple[Route, Route]:
    """A package route in its two spellings."""
    one, two = f"{before}/{{package}}{after}", f"{before}/{{scope}}/{{name}}{after}"
    return (
        Route(method, one, handler, scope, body, encoded_slash=True),
        Route(method, two, handler, scope, body),
    )


CLIENT_SETTINGS = {
    "npm": """\
# .npmrc (in the project, or ~/.npmrc)
registry={url}/
{address}/:_authToken={token}
""",
    "pnpm": """\
# .npmrc (in the project, or ~/.npmrc)
registry={url}/
{address}/:_authToken={token}
""",
    "yarn": """\
# .npmrc (in the project, or ~/.npmrc), for yarn 1
registry={url}/
{address}/:_authToken={token}
always-auth=true
""",
    "yarn-berry": """\
# .yarnrc.yml, for yarn 2 and later
npmRegistryServer: "{url}"
npmAuthToken: "{token}"
npmAlwaysAuth: true
{http:unsafeHttpWhitelist: ["{hostname}"]
}# for yarn 4.10 and later, which refuse what is younger than a day; leave it out before
npmMinimalAgeGate: 0
""",
}

TAG, TAGS = "/dist-tags/{tag}", "/dist-tags"

FORMAT = Format(
    name="npm",
    keys=("npm", "yarn", "pnpm"),
    mounts=("/npm",),
    purl_type="npm",
    checksums=("sha1", "sha512"),
    error_body=error_body,
    routes=(
        Route("GET", "/-/ping", accounts.ping),
        Route("GET", "/-/whoami", accounts.whoami, Scope.OPEN),
        Route("GET", "/-/v1/search", search.search, searches=True),
        Route("POST", "/-/v1/login", accounts.web_login, Scope.OPEN, SMALL),
        Route("PUT", "/-/user/{user}", accounts.login, Scope.OPEN, SMALL),
        Route("GET", "/-/user/{user}", accounts.user, Scope.OPEN),
        Route("DELETE", "/-/user/token/{token}", accounts.logout, Scope.OPEN),
        Route("POST", "/-/npm/v1/tokens", accounts.create_token, Scope.OPEN, SMALL),
        Route("DELETE", "/-/npm/v1/tokens/token/{key}", accounts.revoke_token, Scope.OPEN),
        Route("GET", "/-/npm/v1/user", accounts.profile, Scope.OPEN),
        Route("GET", "/-/npm/v1/keys", accounts.keys),
        Route("POST", "/-/npm/v1/security/advisories/bulk", search.bulk_advisories, body=AUDIT),
        Route("POST", "/-/npm/v1/security/audits/quick", search.quick_audit, body=AUDIT),
        Route("POST", "/-/npm/v1/security/audits", search.quick_audit, body=AUDIT),
        Route("GET", "/-/npm/v1/attestations/{spec}", pages.attestations, encoded_slash=True),
        Route("GET", "/-/npm/v1/attestations/{scope}/{spec}", pages.attestations),
        *_both("GET", "/-/package", TAGS, pages.dist_tags),
        *_both("PUT", "/-/package", TAG, update.set_tag, scope=Scope.WRITE, body=SMALL),
        *_both("POST", "/-/package", TAG, update.set_tag, scope=Scope.WRITE, body=SMALL),
        *_both("DELETE", "/-/package", TAG, update.remove_tag, scope=Scope.WRITE),
        *_both("GET", "", "/-/{file}", pages.tarball),
        *_both("GET", "", "/-/{repeated}/{file}", pages.tarball),
        *_both("DELETE", "", "/-/{file}/-rev/{rev}", update.delete_tarball, scope=Scope.DELETE),
        *_both("PUT", "", "/-rev/{rev}", update.put_revision, scope=Scope.DELETE, body=PACKUMENT),
        *_both("DELETE", "", "/-rev/{rev}", update.delete_package, scope=Scope.DELETE),
        Route("GET", "/{package}", pages.package_page, encoded_slash=True),
        Route("GET", "/{package}/{version}", pages.package_or_version, encoded_slash=True),
        Route("GET", "/{scope}/{name}/{version}", pages.version_page),
        *_both("PUT", "", "", put_package, scope=Scope.WRITE, body=PACKUMENT),
    ),
    client_settings=CLIENT_SETTINGS,
    remote=replace(REMOTE, wishes=mirroring.wishes),
    virtual=VIRTUAL,
    describe=describing.DESCRIBE,
    primary=("tarball",),
    releases=Releases(prerelease=is_prerelease),
)
