"""The form that uploads are sent in."""

from __future__ import annotations

from pathlib import Path

from simulations.bench.client import form


def test_a_form_is_as_long_as_it_says(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"x" * 5000)
    for content in (file, b"x" * 5000):
        body, headers = form({"name": "bench"}, "bench.whl", content)
        sent = b"".join(body)
        assert len(sent) == int(headers["Content-Length"])
        boundary = headers["Content-Type"].partition("boundary=")[2].encode()
        assert sent.count(b"--" + boundary) == 3
        assert b'name="name"\r\n\r\nbench\r\n' in sent
        assert b'filename="bench.whl"' in sent
        assert b"x" * 5000 in sent
