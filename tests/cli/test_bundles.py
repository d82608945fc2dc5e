"""What people read after an import, and where an export begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from cli.bundles import export, report_lines
from mesh.shell.importing import Gap, Report


def lines(**changes: Any) -> list[str]:
    report = Report(complete=True, records=3, known_records=1, blobs=2, size=1500)
    for name, value in changes.items():
        setattr(report, name, value)
    found: dict[str, Any] = msgspec.to_builtins(report)
    return report_lines(found)


def test_a_whole_bundle_takes_one_line() -> None:
    assert lines() == ["3 new records (1 known), 2 new blobs (0 known), 1.5 kB"]


def test_what_is_missing_is_said_with_what_to_do() -> None:
    gap = Gap("ab" * 32, 7, 4, 9)
    told = lines(complete=False, offset=77, gaps=[gap], previous="cd" * 32)
    assert told[1] == "The bundle is truncated at byte 77: import it again whole."
    assert (
        told[2]
        == "Records 5 to 8 of abababababab are missing: import bundle cdcdcdcdcdcdcdcd first."
    )
    assert "export with an earlier --since" in lines(gaps=[gap])[1]


def test_refusals_are_listed() -> None:
    told = lines(refused={"forged": 2}, unnamed_blobs=1, partial_blobs=4, lacking=5)
    assert told[1:] == [
        "1 blobs that no record here names",
        "4 blobs of which chunks are missing",
        "5 blobs that were left out because they should be here, and are not",
        "Refused 2 times: forged",
    ]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", bytes(100)])
def test_since_takes_no_other_file_for_a_bundle(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "some.zip"
    file.write_bytes(content)
    arguments = ["--data", str(tmp_path), "--since", str(file), "--to", str(tmp_path / "x")]
    result = CliRunner().invoke(export, arguments)
    assert "bundle" in str(result.exception)
    assert not (tmp_path / "x").exists()
