"""Conditional and range requests, by the letter of RFC 9110."""

from __future__ import annotations

import pytest

from node.packages.conditions import (
    Span,
    http_date,
    not_modified,
    requested_span,
    shown_change,
)
from store.errors import RangeInvalidError

ETAG, WHEN = '"abc"', 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"if-none-match": '"abc"'}, True),
        ({"if-none-match": 'W/"abc", "x"'}, True),
        ({"if-none-match": "*"}, True),
        ({"if-none-match": '"x"', "if-modified-since": http_date(WHEN)}, False),
        ({"if-modified-since": http_date(WHEN)}, True),
        ({"if-modified-since": http_date(WHEN - 1)}, False),
        ({"if-modified-since": "yesterday"}, False),
        ({}, False),
    ],
)
def test_not_modified(headers: dict[str, str], *, expected: bool) -> None:
    assert not_modified(headers, ETAG, WHEN) is expected


@pytest.mark.parametrize(
    ("since", "expected"), [(WHEN, True), (WHEN - 1, False), (WHEN + 9, False)]
)
def test_the_date_of_what_can_change_is_a_mark(since: float, *, expected: bool) -> None:
    headers = {"if-modified-since": http_date(since)}
    assert not_modified(headers, ETAG, WHEN, exact=True) is expected


@pytest.mark.parametrize(("now", "shown"), [(0.3, -1), (0.9, -1), (1.0, 0), (60.0, 0), (-5.0, -1)])
def test_a_change_is_dated_only_when_its_second_is_over(now: float, shown: float) -> None:
    assert shown_change(WHEN + 0.3, WHEN + now) == WHEN + shown


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-9", Span(0, 10, 100)),
        ("bytes=90-", Span(90, 100, 100)),
        ("bytes=-5", Span(95, 100, 100)),
        ("bytes=-500", Span(0, 100, 100)),
        ("bytes=50-5000", Span(50, 100, 100)),
        ("bytes=9-3", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
    ],
)
def test_ranges(header: str, span: Span | None) -> None:
    assert requested_span({"range": header}, 100, ETAG, WHEN) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_without_a_byte(header: str) -> None:
    with pytest.raises(RangeInvalidError, match=r"bytes \*/100"):
        requested_span({"range": header}, 100, ETAG, WHEN)


def test_a_failed_if_range_gives_the_whole() -> None:
    both = {"range": "bytes=0-1"}
    assert requested_span({**both, "if-range": ETAG}, 100, ETAG, WHEN) == Span(0, 2, 100)
    assert requested_span({**both, "if-range": '"old"'}, 100, ETAG, WHEN) is None
    assert requested_span({**both, "if-range": http_date(WHEN)}, 100, ETAG, WHEN) == Span(0, 2, 100)
    assert requested_span({**both, "if-range": http_date(WHEN - 9)}, 100, ETAG, WHEN) is None
