"""PyPI, end to end over the in-memory repository, with wheels and sdists made here."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from packaging.metadata import parse_email

from formats.pypi import FORMAT
from formats.pypi.distributions import parse_core_metadata
from formats.pypi.names import normalize, parse_filename
from formats.pypi.simple import HTML, JSON, TEXT_HTML, choose
from store.errors import NameInvalidError, RejectedError
from tests.formats.fake import FakeRepository, Result, multipart, perform

INDEXES = (
    "/simple/",
    f"/simple/?format={JSON}",
    "/simple/demo/",
    f"/simple/demo/?format={JSON}",
    "/pypi/demo/json",
    "/pypi/demo/1.0/json",
)
REQUIRES = ">=3.9,<4"


def metadata(name: str, version: str, **more: str) -> bytes:
    fields = {"Metadata-Version": "2.1", "Name": name, "Version": version} | {
        key.replace("_", "-"): value for key, value in more.items()
    }
    head = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"{head}Requires-Python: {REQUIRES}\nSummary: A <demo>\n\nThe readme.\n".encode()


def wheel(
    name: str = "demo",
    version: str = "1.0",
    *,
    core: bytes | None = None,
    extra: dict[str, bytes] | None = None,
    drop: str = "",
    record: str | None = None,
    folder: str = "",
) -> bytes:
    """A wheel; the keyword arguments break it in one way each."""
    folder = folder or f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"x = 1\n",
        f"{folder}/METADATA": metadata(name, version) if core is None else core,
        f"{folder}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(extra or {}),
    }
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{folder}/RECORD"] = ("".join(rows) if record is None else record).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            if not drop or not path.endswith(drop):
                archive.writestr(zipfile.ZipInfo(path), data)
    return out.getvalue()


def sdist(name: str = "demo", version: str = "1.0", *, core: bytes | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in {
            f"{name}-{version}/PKG-INFO": metadata(name, version) if core is None else core,
            f"{name}-{version}/{name}.egg-info/PKG-INFO": b"not this one",
            f"{name}-{version}/setup.py": b"import this",
        }.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)


async def upload(
    repository: FakeRepository,
    data: bytes,
    filename: str,
    *,
    target: str = "/legacy/",
    signature: bytes | None = None,
    form: dict[str, str] | None = None,
    **fields: str,
) -> Result:
    parts = filename.removesuffix(".tar.gz").removesuffix(".whl").split("-")
    sent = {
        ":action": "file_upload",
        "protocol_version": "1",
        "name": parts[0],
        "version": parts[1],
        "x_unknown": "kept",
        "sha256_digest": hashlib.sha256(data).hexdigest(),
        **fields,
        **(form or {}),
    }
    files = {"content": (filename, data)}
    if signature is not None:
        files["gpg_signature"] = (f"{filename}.asc", signature)
    body, headers = multipart({k: v for k, v in sent.items() if v != "-"}, files)
    return await perform(FORMAT, "POST", target, repository, body=body, headers=headers)


WHEEL = "demo-1.0-py3-none-any.whl"


async def sample(repository: FakeRepository) -> None:
    """For the contract tests."""
    for version in ("1.0", "1.10", "1.9", "2.0rc1"):
        name = f"demo-{version}-py3-none-any.whl"
        assert (await upload(repository, wheel(version=version), name)).status == 200
    assert (await upload(repository, sdist(), "demo-1.0.tar.gz")).status == 200
    other = await upload(repository, wheel("Other.Name", "3"), "Other.Name-3-py3-none-any.whl")
    assert other.status == 200
    await perform(FORMAT, "PUT", "/yank/demo/1.9", repository, body=b'{"reason": "bad"}')
    await perform(FORMAT, "PUT", f"/yank/demo/1.0/{WHEEL}", repository, body=b'{"reason": "worse"}')


async def get(repository: FakeRepository, target: str, accept: str = "", base: str = "") -> Result:
    headers = {"accept": accept} if accept else {}
    return await perform(FORMAT, "GET", target, repository, headers=headers, base_url=base)


async def page(repository: FakeRepository, project: str = "demo", base: str = "") -> dict[str, Any]:
    answer = await get(repository, f"/simple/{project}/", JSON, base)
    assert answer.status == 200
    assert answer.headers["content-type"] == JSON
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


class Anchors(HTMLParser):
    """The links and the meta tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, dict[str, str | None]] = {}
        self.meta: list[tuple[str | None, str | None]] = []
        self._at: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._at = dict(attrs)
        if tag == "meta" and ("name" in dict(attrs)):
            self.meta.append((dict(attrs)["name"], dict(attrs).get("content")))

    def handle_data(self, data: str) -> None:
        if self._at is not None:
            self.links[data] = self._at
            self._at = None


def parse(body: bytes) -> Anchors:
    parser = Anchors()
    parser.feed(body.decode())
    return parser


# --- uploads ------------------------------------------------------------------------------------
async def test_a_wheel_goes_in_and_comes_out() -> None:
    repository, data = FakeRepository(), wheel()
    answer = await upload(
        repository,
        data,
        WHEEL,
        filetype="bdist_wheel",
        md5_digest=hashlib.md5(data).hexdigest(),
        blake2_256_digest=hashlib.blake2b(data, digest_size=32).hexdigest(),
    )
    assert answer.status == 200, answer.body
    got = await get(repository, f"/simple/demo/{WHEEL}")
    assert got.body == data
    assert got.response.immutable
    core = await get(repository, f"/simple/demo/{WHEEL}.metadata")
    assert core.body == metadata("demo", "1.0")
    [file] = (await page(repository))["files"]
    assert file["url"] == WHEEL
    assert file["hashes"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert file["core-metadata"] == {"sha256": hashlib.sha256(core.body).hexdigest()}
    assert file["requires-python"] == REQUIRES
    assert file["upload-time"] == "2023-11-14T22:13:21.000000Z"
    assert file["yanked"] is False


async def test_received_fields_are_kept() -> None:
    repository = FakeRepository()
    await upload(repository, wheel(), WHEEL, description="long " * 3000)
    [kept] = await repository.metadata([await repository.artifact(f"demo/{WHEEL}.metadata")])
    fields = json.loads(kept)
    assert fields["x_unknown"] == ["kept"]
    assert fields["description"] == ["long " * 3000]


async def test_an_sdist_goes_in_but_its_metadata_is_not_promised() -> None:
    repository = FakeRepository()
    assert (await upload(repository, sdist(), "demo-1.0.tar.gz", target="/")).status == 200
    [file] = (await page(repository))["files"]
    assert "core-metadata" not in file


async def test_the_same_file_again_is_fine_another_is_not() -> None:
    repository = FakeRepository()
    await upload(repository, wheel(), WHEEL)
    revision = repository.revision
    assert (await upload(repository, wheel(), WHEEL)).status == 200
    assert repository.revision == revision
    answer = await upload(repository, wheel(extra={"demo/more.py": b""}), WHEEL)
    assert answer.status == 400
    assert answer.body.startswith(b"File already exists")


@pytest.mark.parametrize("length", [32, 22])
async def test_md5_may_come_in_hex_or_base64(length: int) -> None:
    data = wheel()
    digest = hashlib.md5(data)
    text = digest.hexdigest()
    if length == 22:
        text = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    assert (await upload(FakeRepository(), data, WHEEL, md5_digest=text)).status == 200


@pytest.mark.parametrize("field", ["sha256_digest", "md5_digest", "blake2_256_digest"])
@pytest.mark.parametrize("value", ["0" * 64, "0" * 32, "A" * 22, "nonsense"])
async def test_wrong_digests_are_refused(field: str, value: str) -> None:
    repository = FakeRepository()
    answer = await upload(repository, wheel(), WHEEL, form={field: value})
    assert answer.status == 400
    assert not repository.files


@pytest.mark.parametrize(
    ("filename", "fields"),
    [
        (WHEEL, {"name": "other"}),
        (WHEEL, {"name": "-demo-"}),
        (WHEEL, {"name": "-"}),
        (WHEEL, {"version": "2.0"}),
        (WHEEL, {"version": "one"}),
        (WHEEL, {"filetype": "sdist"}),
        (WHEEL, {"filetype": "bdist_egg"}),
        (WHEEL, {":action": "submit"}),
        (WHEEL, {":action": "-"}),
        (WHEEL, {"protocol_version": "2"}),
        ("demo-1.0-py3-none.whl", {}),
        ("demo-1.0-py3-none-any.exe", {}),
        ("../demo-1.0-py3-none-any.whl", {"name": "demo", "version": "1.0"}),
        ("demo-1.1-py3-none-any.whl", {}),
        ("omed-1.0-py3-none-any.whl", {}),
    ],
)
async def test_forms_that_contradict_the_file_are_refused(
    filename: str, fields: dict[str, str]
) -> None:
    repository = FakeRepository()
    answer = await upload(repository, wheel(), filename, form=fields)
    assert answer.status == 400, answer.body
    assert answer.headers["content-type"].startswith("text/plain")
    assert not repository.files


@pytest.mark.parametrize(
    "data",
    [
        b"not a zip at all",
        sdist(),
        wheel(core=metadata("other", "1.0")),
        wheel(core=metadata("demo", "1.1")),
        wheel(core=b"Name: demo\n"),
        wheel(core=b"\xff\xfe"),
        wheel(core=metadata("demo", "1.0").replace(REQUIRES.encode(), b"about three")),
        wheel(core=metadata("demo", "1.0").replace(REQUIRES.encode(), b">=3" + b",>=3" * 400)),
        wheel(drop="METADATA"),
        wheel(drop="WHEEL"),
        wheel(drop="RECORD"),
        wheel(extra={"else-1.0.dist-info/METADATA": b""}),
        wheel(folder="other-1.0.dist-info"),
        wheel(record="demo/__init__.py,,\n"),
        wheel(record="\0"),
        wheel(extra={"../evil.py": b""}),
    ],
    ids=range(16),
)
async def test_broken_wheels_are_refused(data: bytes) -> None:
    repository = FakeRepository()
    answer = await upload(repository, data, WHEEL)
    assert answer.status == 400, answer.body
    assert not repository.files


async def test_a_record_with_another_digest_is_refused() -> None:
    data = wheel()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        record = archive.read("demo-1.0.dist-info/RECORD").decode()
    lines = [line.replace("sha256=", "sha256=AAAA") for line in record.splitlines()]
    answer = await upload(FakeRepository(), wheel(record="\n".join(lines)), WHEEL)
    assert answer.status == 400
    assert b"digest" in answer.body


async def test_an_sdist_of_another_name_is_refused() -> None:
    bad = sdist(core=metadata("other", "1.0"))
    assert (await upload(FakeRepository(), bad, "demo-1.0.tar.gz")).status == 400


async def test_one_file_is_expected() -> None:
    body, headers = multipart({":action": "file_upload", "name": "demo", "version": "1"})
    answer = await perform(FORMAT, "POST", "/", FakeRepository(), body=body, headers=headers)
    assert answer.status == 400


async def test_signatures_lie_beside_the_file() -> None:
    repository = FakeRepository()
    armour = b"-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
    assert (await upload(repository, wheel(), WHEEL, signature=armour)).status == 200
    assert (await get(repository, f"/simple/demo/{WHEEL}.asc")).body == armour
    [file] = (await page(repository))["files"]
    assert file["gpg-sig"] is True
    assert (await upload(FakeRepository(), wheel(), WHEEL, signature=b"no")).status == 400
    huge = armour + b"x" * (1 << 17)
    assert (await upload(FakeRepository(), wheel(), WHEEL, signature=huge)).status == 413


# --- index pages --------------------------------------------------------------------------------
async def test_both_forms_of_a_page_say_the_same() -> None:
    repository = FakeRepository()
    await sample(repository)
    told = await page(repository)
    assert told["versions"] == ["1.0", "1.9", "1.10", "2.0rc1"]
    assert told["project-status"] == {"status": "active"}
    found = parse((await get(repository, "/simple/demo/", "text/html")).body)
    assert ("pypi:repository-version", "1.4") in found.meta
    files = told["files"]
    assert isinstance(files, list)
    assert [each["filename"] for each in files] == list(found.links)
    for each in files:
        link = found.links[each["filename"]]
        assert link["href"] == f"{each['url']}#sha256={each['hashes']['sha256']}"
        assert link.get("data-requires-python") == each.get("requires-python")
        assert ("data-yanked" in link) == bool(each["yanked"])
        if each["yanked"]:
            assert link["data-yanked"] == each["yanked"]
        assert "dist-info-metadata" not in each, (
            "pip 22.2 to 23.0, Debian 12's, end with a TypeError"
        )
        core = each.get("core-metadata")
        expected = f"sha256={core['sha256']}" if core else None
        assert link.get("data-core-metadata") == link.get("data-dist-info-metadata") == expected


async def test_the_index_lists_normalised_names() -> None:
    repository = FakeRepository()
    assert json.loads((await get(repository, "/simple/", JSON)).body)["projects"] == []
    await sample(repository)
    listed = json.loads((await get(repository, "/simple", JSON)).body)["projects"]
    assert listed == [{"name": "demo"}, {"name": "other-name"}]
    assert list(parse((await get(repository, "/simple/")).body).links) == ["demo", "other-name"]


async def test_one_project_has_one_url() -> None:
    repository = FakeRepository()
    await sample(repository)
    for target, location in (
        ("/simple/Other_Name/", "../other-name/"),
        ("/simple/Other..Name", "other-name/"),
        ("/simple/demo", "demo/"),
    ):
        answer = await get(repository, target)
        assert (answer.status, answer.headers["location"]) == (301, location)
    for missing in ("/simple/none/", "/simple/-bad-/", "/simple/demo/none-1.whl", "/+simple/demo/"):
        assert (await get(repository, missing)).status == 404


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT_HTML),
        ("*/*", TEXT_HTML),
        ("text/html", TEXT_HTML),
        (f"{JSON}, {HTML}; q=0.1, text/html; q=0.01", JSON),
        (f"{JSON};q=0.1, {HTML};q=0.2", HTML),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("text/html;q=0.5, */*;q=0.1", TEXT_HTML),
        (f"{JSON};q=nonsense", None),
        ("application/xml", None),
    ],
)
def test_the_media_type_follows_accept(accept: str, expected: str | None) -> None:
    assert choose(accept) == expected


async def test_what_is_not_acceptable_is_said() -> None:
    repository = FakeRepository()
    await sample(repository)
    assert (await get(repository, "/simple/demo/", "application/xml")).status == 406
    assert (await get(repository, "/simple/?format=nonsense")).status == 406


async def test_hostile_text_is_escaped() -> None:
    repository = FakeRepository()
    await upload(repository, wheel(), WHEEL)
    body = json.dumps({"reason": '"><script>alert(1)</script>'}).encode()
    await perform(FORMAT, "PUT", "/yank/demo/1.0", repository, body=body)
    answer = await get(repository, "/simple/demo/")
    assert b"<script>" not in answer.body
    assert parse(answer.body).links[WHEEL]["data-yanked"] == '"><script>alert(1)</script>'


async def test_pep_708_comes_from_the_options() -> None:
    options: dict[str, object] = {
        "tracks": {"demo": ["https://b.test/demo/", "https://a.test/demo/"]},
        "alternate_locations": {"demo": ["https://c.test/demo/"]},
    }
    repository = FakeRepository(options=options)
    await sample(repository)
    told = await page(repository)
    assert told["meta"] == {
        "api-version": "1.4",
        "tracks": ["https://a.test/demo/", "https://b.test/demo/"],
    }
    assert told["alternate-locations"] == ["https://c.test/demo/"]
    meta = parse((await get(repository, "/simple/demo/")).body).meta
    assert ("pypi:tracks", "https://a.test/demo/") in meta
    assert ("pypi:alternate-locations", "https://c.test/demo/") in meta


# --- yank and status ----------------------------------------------------------------------------
async def test_yanking_a_version_and_a_file() -> None:
    repository = FakeRepository()
    await sample(repository)

    async def yanked() -> dict[str, object]:
        files = (await page(repository))["files"]
        assert isinstance(files, list)
        return {each["filename"]: each["yanked"] for each in files if each["yanked"]}

    assert await yanked() == {WHEEL: "worse", "demo-1.9-py3-none-any.whl": "bad"}
    assert (await perform(FORMAT, "PUT", "/yank/demo/1.10", repository)).status == 204
    assert (await yanked())["demo-1.10-py3-none-any.whl"] is True
    for target in ("/yank/demo/1.9", "/yank/demo/1.10", f"/yank/demo/1.0/{WHEEL}"):
        assert (await perform(FORMAT, "DELETE", target, repository)).status == 204
    assert await yanked() == {}
    assert (await perform(FORMAT, "DELETE", "/yank/demo/1.9", repository)).status == 204
    for missing in ("/yank/none/1.0", "/yank/demo/7", "/yank/demo/1.0/none.whl"):
        assert (await perform(FORMAT, "PUT", missing, repository)).status == 404
    for body in (b"[", b'{"reason": 1}', b'{"reason": "two\\nlines"}'):
        answer = await perform(FORMAT, "PUT", "/yank/demo/1.0", repository, body=body)
        assert answer.status == 400


async def status(repository: FakeRepository, value: str, reason: str = "") -> int:
    body = json.dumps({"status": value, "reason": reason}).encode()
    return (await perform(FORMAT, "PUT", "/status/Demo", repository, body=body)).status


async def test_project_status() -> None:
    repository = FakeRepository()
    assert await status(repository, "archived") == 404
    await sample(repository)
    assert await status(repository, "nonsense") == 400
    assert await status(repository, "active") == 204
    assert await status(repository, "archived", "done") == 204
    assert (await page(repository))["project-status"] == {"status": "archived", "reason": "done"}
    assert ("pypi:project-status-reason", "done") in parse(
        (await get(repository, "/simple/demo/")).body
    ).meta
    answer = await upload(repository, wheel(version="9"), "demo-9-py3-none-any.whl")
    assert answer.status == 403
    assert (await get(repository, f"/simple/demo/{WHEEL}")).status == 200
    assert await status(repository, "quarantined") == 204
    assert (await page(repository))["files"] == []
    assert (await get(repository, f"/simple/demo/{WHEEL}")).status == 403
    assert await status(repository, "active") == 204
    assert len((await page(repository))["files"]) == 5


# --- the legacy JSON API ------------------------------------------------------------------------
async def test_the_legacy_api_describes_the_newest_release() -> None:
    repository = FakeRepository()
    await sample(repository)
    document = json.loads((await get(repository, "/pypi/Demo/json")).body)
    info = document["info"]
    assert (info["name"], info["version"], info["yanked"]) == ("demo", "1.10", False)
    assert info["summary"] == "A <demo>"
    assert info["description"] == "The readme.\n"
    assert list(document["releases"]) == ["1.0", "1.9", "1.10", "2.0rc1"]
    [file] = document["urls"]
    assert file["url"].startswith("http://registry.test/pypi/repo/simple/demo/demo-1.10")
    assert file["digests"]["sha256"]
    old = json.loads((await get(repository, "/pypi/demo/1.9.0/json")).body)["info"]
    assert (old["version"], old["yanked"], old["yanked_reason"]) == ("1.9", True, "bad")
    for missing in ("/pypi/none/json", "/pypi/demo/7/json", "/pypi/demo/x/json"):
        assert (await get(repository, missing)).status == 404


# --- attestations -------------------------------------------------------------------------------
RELEASE = "https://github.com/acme/demo/.github/workflows/release.yml@refs/tags/v1"


def attestation(
    data: bytes,
    filename: str = WHEEL,
    *,
    workflow: str = RELEASE,
    rsa_key: bool = False,
    **change: object,
) -> dict[str, object]:
    """A PEP 740 attestation under a certificate of our own."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = rsa.generate_private_key(65537, 2048).public_key() if rsa_key else key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(public)
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=10))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(workflow)]), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    statement: dict[str, object] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": filename, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}],
        "predicateType": "https://docs.pypi.org/attestations/publish/v1",
        "predicate": None,
    }
    payload = json.dumps(statement | change).encode()
    kind = b"application/vnd.in-toto+json"
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return {
        "version": 1,
        "verification_material": {
            "certificate": base64.b64encode(der).decode(),
            "transparency_entries": [{"logIndex": "1"}],
        },
        "envelope": {
            "statement": base64.b64encode(payload).decode(),
            "signature": base64.b64encode(key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode(),
        },
    }


async def test_attestations_are_served_as_provenance() -> None:
    repository, data = FakeRepository(), wheel()
    sent = [attestation(data)]
    assert (await upload(repository, data, WHEEL, attestations=json.dumps(sent))).status == 200
    answer = await get(repository, f"/integrity/demo/1.0/{WHEEL}/provenance")
    assert answer.headers["content-type"] == "application/vnd.pypi.integrity.v1+json"
    [bundle] = json.loads(answer.body)["attestation_bundles"]
    assert bundle["attestations"] == sent
    assert bundle["publisher"]["kind"] == "GitHub"
    assert bundle["publisher"]["repository"] == "acme/demo"
    base = "https://registry.test/pypi/repo"
    [file] = (await page(repository, base=base))["files"]
    assert file["provenance"] == f"{base}/integrity/demo/1.0/{WHEEL}/provenance"
    [plain] = (await page(repository))["files"]
    assert "provenance" not in plain
    assert (await get(repository, f"/integrity/demo/1.1/{WHEEL}/provenance")).status == 404


def _broken(change: str) -> list[object]:
    data = wheel()
    good = attestation(data)
    material, envelope = good["verification_material"], good["envelope"]
    assert isinstance(material, dict)
    assert isinstance(envelope, dict)
    match change:
        case "file":
            return [attestation(data, "other-1.0-py3-none-any.whl")]
        case "bytes":
            return [attestation(b"other")]
        case "type":
            return [attestation(data, _type="x")]
        case "predicate":
            return [attestation(data, predicateType="x")]
        case "subject":
            return [attestation(data, subject=[])]
        case "log":
            material["transparency_entries"] = []
        case "certificate":
            material["certificate"] = base64.b64encode(b"no").decode()
        case "base64":
            material["certificate"] = "!"
        case "signature":
            envelope["signature"] = base64.b64encode(b"no").decode()
        case "statement":
            envelope["statement"] = base64.b64encode(b"[1").decode()
        case "version":
            good["version"] = 2
        case "many":
            return [good] * 9
        case "none":
            return []
        case "shape":
            return [1]
    return [good]


@pytest.mark.parametrize(
    "change",
    [
        "file",
        "bytes",
        "type",
        "predicate",
        "subject",
        "log",
        "certificate",
        "base64",
        "signature",
        "statement",
        "version",
        "many",
        "none",
        "shape",
    ],
)
async def test_attestations_that_do_not_hold_are_refused(change: str) -> None:
    repository = FakeRepository()
    text = json.dumps(_broken(change))
    answer = await upload(repository, wheel(), WHEEL, attestations=text)
    assert answer.status == 400, answer.body
    assert not repository.files


async def test_attestations_agree_on_their_publisher() -> None:
    data = wheel()
    other = attestation(data, workflow="https://elsewhere.test/flow")
    mixed = json.dumps([attestation(data), other])
    assert (await upload(FakeRepository(), data, WHEEL, attestations=mixed)).status == 400
    repository = FakeRepository()
    alone = json.dumps([other])
    assert (await upload(repository, data, WHEEL, attestations=alone)).status == 200
    answer = await get(repository, f"/integrity/demo/1.0/{WHEEL}/provenance")
    [found] = json.loads(answer.body)["attestation_bundles"]
    assert found["publisher"] == {"kind": "Unknown", "identity": "https://elsewhere.test/flow"}
    other_key = json.dumps([attestation(data, rsa_key=True)])
    assert (await upload(FakeRepository(), data, WHEEL, attestations=other_key)).status == 400


async def test_a_release_without_metadata_or_limits_is_shown() -> None:
    repository = FakeRepository()
    core = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    await upload(repository, wheel(core=core), WHEEL)
    del repository.files[f"demo/{WHEEL}.metadata"]
    [file] = (await page(repository))["files"]
    assert "requires-python" not in file
    assert "core-metadata" not in file
    assert "data-requires-python" not in parse((await get(repository, "/simple/demo/")).body).links
    assert json.loads((await get(repository, "/pypi/demo/json")).body)["info"]["summary"] == ""


async def test_malformed_records_and_sdists_without_metadata_are_refused() -> None:
    bad = wheel(record='"open')
    assert (await upload(FakeRepository(), bad, WHEEL)).status == 400
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("demo-1.0/setup.py"))
    assert (await upload(FakeRepository(), out.getvalue(), "demo-1.0.tar.gz")).status == 400


@given(st.binary(max_size=200))
def test_any_core_metadata_is_read_or_refused(data: bytes) -> None:
    filename = parse_filename(WHEEL)
    for each in (data, metadata("demo", "1.0") + data, data + metadata("demo", "1.0")):
        with contextlib.suppress(RejectedError):
            parse_core_metadata(each, filename)


# --- names --------------------------------------------------------------------------------------
@given(st.text("aZ09-_. é\n", max_size=8))
def test_names_are_judged_before_they_are_normalised(name: str) -> None:
    try:
        found = normalize(name)
    except NameInvalidError:
        return
    assert name[0].isalnum()
    assert name[-1].isalnum()
    assert found == normalize(found)
    assert "--" not in found
    assert parse_email(f"Name: {name}\n")[0]["name"] == name


@given(st.text(max_size=300))
def test_any_accept_header_is_survived(accept: str) -> None:
    assert choose(accept) in {JSON, HTML, TEXT_HTML, None}
