"""PyPI.  Spec: PyPA specifications (Simple repository API 1.4, core metadata, legacy uploads)."""

from __future__ import annotations

from dataclasses import replace

from formats.contract import FORM, Body, BodyKind, Format, Response, Route, Scope
from formats.pypi import describing, legacy, marks, mirroring, pages
from formats.pypi.releases import RELEASES
from formats.pypi.upload import upload
from formats.pypi.upstream import REMOTE
from formats.pypi.virtual import VIRTUAL
from store.errors import RegistryError, VersionExistsError

SMALL = Body(BodyKind.DOCUMENT, 64 << 10)


def error_body(error: RegistryError) -> Response:
    """Say it as text.  Upload tools look for "File already exists", under status 400."""
    status, text = error.status, str(error)
    if isinstance(error, VersionExistsError):
        status = 400
        text = text if text.startswith("File already exists") else f"File already exists: {text}"
    return Response(status, f"{text}\n".encode(), "text/plain; charset=utf-8")


CLIENT_SETTINGS = {
    "pip": """\
# ~/.config/pip/pip.conf
[global]
index-url = {url}/simple/
{http:trusted-host = {host}
}
# for a private repository, in the shell instead
export PIP_INDEX_URL='{secret_url}/simple/'
{http:export PIP_TRUSTED_HOST='{host}'
}""",
    "uv": """\
# uv.toml, or under [tool.uv] in pyproject.toml
publish-url = "{url}/legacy/"

[[index]]
name = "atoll"
url = "{url}/simple/"
default = true

# in the shell: the first two to publish, the others to read a private repository
export UV_PUBLISH_USERNAME='{user}'
export UV_PUBLISH_PASSWORD='{token}'
export UV_INDEX_ATOLL_USERNAME='{user}'
export UV_INDEX_ATOLL_PASSWORD='{token}'
""",
    "twine": """\
# ~/.pypirc, then: twine upload --repository atoll dist/*
[distutils]
index-servers = atoll

[atoll]
repository = {url}/legacy/
username = {user}
password = {token}
""",
    "poetry": """\
poetry source add --priority=primary atoll {url}/simple/
poetry config repositories.atoll {url}/legacy/
poetry config http-basic.atoll {user} {token}
# then: poetry publish --build --repository atoll
""",
}

FORMAT = Format(
    name="pypi",
    keys=("pypi", "poetry"),
    mounts=("/pypi",),
    purl_type="pypi",
    checksums=("md5",),
    error_body=error_body,
    routes=(
        Route("GET", "/simple/", pages.index),
        Route("GET", "/simple/{project}/", pages.project_page),
        Route("GET", "/simple/{project}/{file}", pages.download),
        Route("POST", "/", upload, Scope.WRITE, FORM),
        Route("POST", "/legacy/", upload, Scope.WRITE, FORM),
        Route("GET", "/pypi/{project}/json", legacy.project_document),
        Route("GET", "/pypi/{project}/{version}/json", legacy.version_document),
        Route("GET", "/integrity/{project}/{version}/{file}/provenance", pages.provenance),
        Route("PUT", "/yank/{project}/{version}", marks.yank, Scope.WRITE, SMALL),
        Route("PUT", "/yank/{project}/{version}/{file}", marks.yank, Scope.WRITE, SMALL),
        Route("DELETE", "/yank/{project}/{version}", marks.unyank, Scope.WRITE),
        Route("DELETE", "/yank/{project}/{version}/{file}", marks.unyank, Scope.WRITE),
        Route("PUT", "/status/{project}", marks.set_status, Scope.WRITE, SMALL),
    ),
    client_settings=CLIENT_SETTINGS,
    remote=replace(REMOTE, wishes=mirroring.wishes, follow=mirroring.follow),
    virtual=VIRTUAL,
    releases=RELEASES,
    describe=describing.DESCRIBE,
    primary=("dist",),
)
