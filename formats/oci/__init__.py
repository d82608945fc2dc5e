"""OCI images and artifacts: docker, podman, buildx, oras, helm, wasm.

Images keep their blobs apart from each other's, while the store keeps equal bytes once.  A push
stages blobs on this node; the manifest is its commit point and replicates with all it names.

Spec: distribution-spec 1.1, image-spec 1.1.
"""

from __future__ import annotations

from dataclasses import replace

from formats.contract import Body, BodyKind, Format, RootRoute, Route, Scope
from formats.oci import blobs, describing, listings, manifests, mirroring, removal, roots
from formats.oci.documents import MANIFEST_MAX
from formats.oci.errors import challenge, error_body
from formats.oci.releases import RELEASES
from formats.oci.upstream import REMOTE
from formats.oci.virtual import VIRTUAL

CHUNK = Body(BodyKind.SESSION, session="session", prepare=blobs.judge_chunk)
WHOLE = Body(BodyKind.BLOB, optional=True)
MANIFEST = Body(BodyKind.DOCUMENT, MANIFEST_MAX)
TOKEN_FORM = Body(BodyKind.DOCUMENT, 64 << 10)
UPLOADS = "/{image*}/blobs/uploads"
SESSION = "/{image*}/blobs/uploads/{session}"
BLOB = "/{image*}/blobs/{digest}"
REFERENCE = "/{image*}/manifests/{reference}"

CLIENT_SETTINGS = {
    "docker": """\
docker login {host} -u {user} -p {token}
docker tag IMAGE {host}/{key}/IMAGE:TAG
docker push {host}/{key}/IMAGE:TAG
docker pull {host}/{key}/IMAGE:TAG
{http:# where the node is on another machine, docker's daemon.json must list it first:
# "insecure-registries": ["{host}"]
}""",
    "podman": """\
podman login {http:--tls-verify=false }{host} -u {user} -p {token}
podman push {http:--tls-verify=false }IMAGE docker://{host}/{key}/IMAGE:TAG
podman pull {http:--tls-verify=false }{host}/{key}/IMAGE:TAG
""",
    "skopeo": """\
skopeo copy {http:--dest-tls-verify=false }--dest-creds {user}:{token} \\
    oci:DIR:TAG docker://{host}/{key}/IMAGE:TAG
skopeo copy {http:--src-tls-verify=false }--src-creds {user}:{token} \\
    docker://{host}/{key}/IMAGE:TAG oci:DIR:TAG
""",
    "crane": """\
crane auth login {host} -u {user} -p {token}
crane push {http:--insecure }IMAGE.tar {host}/{key}/IMAGE:TAG
crane pull {http:--insecure }{host}/{key}/IMAGE:TAG IMAGE.tar
""",
    "oras": """\
oras login {http:--plain-http }{host} -u {user} -p {token}
oras push {http:--plain-http }{host}/{key}/ARTIFACT:TAG FILE
oras pull {http:--plain-http }{host}/{key}/ARTIFACT:TAG
""",
    "helm": """\
helm registry login {http:--plain-http }{host} -u {user} -p {token}
helm push {http:--plain-http }CHART-VERSION.tgz oci://{host}/{key}
helm pull {http:--plain-http }oci://{host}/{key}/CHART --version VERSION
""",
}

FORMAT = Format(
    name="oci",
    keys=("docker", "podman", "buildx", "oras", "wasm_oci", "helm_oci"),
    mounts=("/v2",),
    purl_type="oci",
    routes=(
        Route("POST", UPLOADS, blobs.start_upload, Scope.WRITE, WHOLE),
        Route("GET", SESSION, blobs.upload_status, Scope.WRITE),
        Route("PATCH", SESSION, blobs.append_chunk, Scope.WRITE, CHUNK),
        Route("PUT", SESSION, blobs.finish_upload, Scope.WRITE, CHUNK),
        Route("DELETE", SESSION, blobs.cancel_upload, Scope.WRITE),
        Route("GET", BLOB, blobs.get_blob),
        Route("DELETE", BLOB, blobs.delete_blob, Scope.DELETE),
        Route("GET", REFERENCE, manifests.get_manifest),
        Route("PUT", REFERENCE, manifests.put_manifest, Scope.WRITE, MANIFEST),
        Route("DELETE", REFERENCE, removal.delete_manifest, Scope.DELETE),
        Route("GET", "/{image*}/tags/list", listings.list_tags),
        Route("GET", "/{image*}/referrers/{digest}", listings.list_referrers),
    ),
    root_routes=(
        RootRoute("GET", "/v2/", roots.check_version),
        RootRoute("GET", "/v2/token", roots.get_token),
        RootRoute("POST", "/v2/token", roots.post_token, TOKEN_FORM),
        RootRoute("GET", "/v2/_catalog", roots.catalog),
    ),
    error_body=error_body,
    challenge=challenge,
    client_settings=CLIENT_SETTINGS,
    remote=replace(REMOTE, wishes=mirroring.wishes, follow=mirroring.follow),
    virtual=VIRTUAL,
    releases=RELEASES,
    describe=describing.DESCRIBE,
    primary=("manifest",),
)
