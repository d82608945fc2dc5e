"""Whoever switches a rule off says why, beside it."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from cli.environment import ROOT
from tests.tidy.tree import tracked

SWITCH = re.compile(r"# (?:type: ignore(?:\[[^\]]*\])?  # |noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*  )\S")
CATCH_ALL = re.compile(r"\s*except (BaseException|\(.*BaseException\b.*\))( as \w+)?:")
SPOKEN = ("# type: ignore", "# noqa")


def unexplained(source: str) -> Iterator[int]:
    """Yield the numbers of lines that switch a rule off, or catch everything, without a reason."""
    comments = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    for number, line in enumerate(source.splitlines(), 1):
        comment = comments.get(number, "")
        if comment.startswith(SPOKEN) and not SWITCH.match(comment):
            yield number
        if CATCH_ALL.match(line) and not comment:
            yield number


def test_exceptions_from_the_rules_have_reasons() -> None:
    modules = [name for name in tracked() if name.endswith(".py")]
    found = [
        f"{name}:{number}"
        for name in modules
        for number in unexplained((ROOT / name).read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "x = y  # type: ignore",
        "x = y  # type: ignore[misc]",
        "import x  # noqa: F401",
        "try:\n    pass\nexcept BaseException:\n    raise",
    ],
)
def test_the_rule_bites(line: str) -> None:
    assert list(unexplained(line)) != []
