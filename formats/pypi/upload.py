"""Taking a distribution.  Spec: the legacy upload API ("file_upload", protocol version 1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from functools import partial

import msgspec

from formats.contract import Answer, Form, FormFile, Publish, Repository, Request, Response
from formats.digests import compare, hex_digest
from formats.pypi.distributions import Inspected, inspect, parse_core_metadata
from formats.pypi.names import Filename, normalize, parse_filename, parse_version
from formats.pypi.projects import (
    CLOSED,
    DISTRIBUTION,
    METADATA,
    PROVENANCE,
    SIGNATURE,
    Stored,
    project_status,
)
from store.blobs import Ingested
from store.errors import (
    DeniedError,
    DigestInvalidError,
    ManifestInvalidError,
    RejectedError,
    TooLargeError,
)
from store.facts import File
from store.facts import Publish as PublishFact

SIGNATURE_MAX = 64 << 10  # bytes
ARMOUR = b"-----BEGIN PGP SIGNATURE-----"
FILETYPES = ("bdist_wheel", "sdist")
UNKEPT = ("attestations",)  # form fields that are stored elsewhere


async def upload(request: Request, repository: Repository) -> Answer:
    """Check a distribution against its form, its filename and itself, then publish it.

    The same bytes again are a success.  Raises RejectedError, DeniedError for archived projects.
    """
    assert request.form is not None  # the route takes a form
    form = request.form
    content = _only_file(form)
    filename = parse_filename(content.filename)
    _check_form(form, filename)
    status = project_status(await repository.flags(filename.project))
    if status.status in CLOSED:
        raise DeniedError(f"project {filename.project} is {status.status}: no uploads")
    reader = partial(inspect, filename=filename, blake2=bool(form.first("blake2_256_digest")))
    inspected = await repository.inspect(content.blob.digest, reader)
    _check_digests(form, content.blob, inspected)
    raw = parse_core_metadata(inspected.core_metadata, filename)
    stored = Stored(filename.filetype, filename.python, raw.get("requires_python") or "")
    path = f"{filename.project}/{content.filename}"
    files = [_file(path, DISTRIBUTION, content.blob, msgspec.json.encode(stored))]
    received = {k: v for k, v in form.fields.items() if k not in UNKEPT}
    metadata = await _store(repository, inspected.core_metadata)
    files.append(_file(f"{path}.metadata", METADATA, metadata, _encode_sorted(received)))
    files += await _extras(form, content, path, repository)
    fact = PublishFact(repository.key, filename.project, str(filename.version), tuple(files))
    return Publish((fact,), Response(200, b"OK\n", "text/plain; charset=utf-8"))


def _only_file(form: Form) -> FormFile:
    if form.first(":action") != "file_upload":
        raise RejectedError("the form's :action must be file_upload")
    if form.first("protocol_version", "1") != "1":
        raise RejectedError("unknown protocol version")
    files = form.files.get("content", ())
    if len(files) != 1:
        raise RejectedError("the form must hold one file, named content")
    return files[0]


def _check_form(form: Form, filename: Filename) -> None:
    """The form and the filename must name the same thing."""
    if normalize(form.first("name")) != filename.project:
        raise ManifestInvalidError("the filename is of another project than the form's name")
    if parse_version(form.first("version")) != filename.version:
        raise ManifestInvalidError("the filename is of another version than the form's")
    filetype = form.first("filetype")
    if filetype and (filetype not in FILETYPES or filetype != filename.filetype):
        raise ManifestInvalidError(f"filetype {filetype[:80]!r} does not fit the filename")


def _check_digests(form: Form, blob: Ingested, inspected: Inspected) -> None:
    """Every digest that was sent must match.  Raises DigestMismatchError, DigestInvalidError."""
    for field, algorithm, actual in (
        ("sha256_digest", "sha256", blob.digest.hex),
        ("blake2_256_digest", "sha256", inspected.blake2_256),  # as long as a SHA-256
        ("md5_digest", "md5", blob.checksums.get("md5", "")),
    ):
        text = form.first(field)
        if text:
            expected = _md5(text) if field == "md5_digest" else hex_digest(algorithm, text)
            compare(field.removesuffix("_digest"), expected, actual)


def _md5(text: str) -> str:
    """Hexadecimal, or base64 with the URL-safe alphabet and no padding, as old tools send it."""
    if len(text) != 22:
        return hex_digest("md5", text)
    try:
        return base64.b64decode(f"{text}==", altchars=b"-_", validate=True).hex()
    except (binascii.Error, ValueError) as error:
        raise DigestInvalidError(f"not an md5 digest: {text!r}") from error


async def _extras(
    form: Form, content: FormFile, path: str, repository: Repository
) -> Iterable[File]:
    """The signature and the provenance that may come along."""
    files = []
    signatures = form.files.get("gpg_signature", ())
    if signatures:
        blob = signatures[0].blob
        if blob.size > SIGNATURE_MAX:
            raise TooLargeError(f"a signature of {blob.size} bytes")
        if not (await repository.load(blob.digest, limit=SIGNATURE_MAX)).startswith(ARMOUR):
            raise ManifestInvalidError("the signature is not ASCII-armoured OpenPGP")
        files.append(_file(f"{path}.asc", SIGNATURE, blob))
    text = form.first("attestations")
    if text:
        from formats.pypi import attestations  # what it imports is heavy, and few send any

        document = attestations.provenance(text, content.filename, content.blob.digest.hex)
        stored = await _store(repository, document)
        files.append(_file(f"{path}.provenance", PROVENANCE, stored))
    return files


async def _store(repository: Repository, data: bytes) -> Ingested:
    async with repository.ingest() as sink:
        await sink.write(data)
    return sink.result


def _file(path: str, role: str, blob: Ingested, metadata: bytes = b"") -> File:
    sums = tuple(sorted(blob.checksums.items()))
    return File(path, role, str(blob.digest), blob.size, checksums=sums, metadata=metadata)


def _encode_sorted(document: object) -> bytes:
    return msgspec.json.encode(document, order="sorted")
