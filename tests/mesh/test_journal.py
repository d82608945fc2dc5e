"""What is written down of transfers: enough to explain them, and never more than so much."""

from __future__ import annotations

from mesh.journal import (
    ASKED,
    COMPLETE,
    EVENTS_MAX,
    REDIRECTED,
    SOURCES_MAX,
    STALLED,
    STORIES_MAX,
    Journal,
    Totals,
)

BLOB, PEER = b"b" * 32, b"p" * 32


def test_a_story_is_told_in_order_with_reasons() -> None:
    journal = Journal()
    journal.begin(BLOB, "for a client", 1.0)
    journal.found(BLOB, PEER, 1, 1.1)
    journal.found(BLOB, PEER, 1, 9.0)  # says the same again: no news
    journal.opened(BLOB, 16, 2, 1.2)
    journal.asked(BLOB, PEER, "2 MB/s", 1.3)
    journal.asked(BLOB, PEER, "3 MB/s", 1.4)
    journal.gave(BLOB, PEER, 100, 1.5, useful=True)
    journal.gave(BLOB, PEER, 10, 1.6, useful=False)
    journal.stalled(BLOB, PEER, "nothing for 2.0 s", 4.0)
    journal.asked(BLOB, PEER, "1 MB/s", 8.0)
    journal.end(BLOB, "complete", 100, 9.0)
    story = journal.stories[BLOB]
    assert [(e.what, e.why) for e in story.events] == [
        ("wanted", "for a client"),
        ("found", "has all of it"),
        ("manifest", "16 chunks, 2 of them here"),
        (ASKED, "2 MB/s"),
        (STALLED, "nothing for 2.0 s"),
        (ASKED, "1 MB/s"),  # again after trouble
        ("ended", "complete"),
    ]
    share = story.shares[PEER]
    assert (share.received, share.wasted, share.requests, share.stalls) == (100, 10, 3, 1)
    assert (story.ended, story.outcome, story.size) == (9.0, "complete", 100)


def test_the_same_again_soon_only_counts() -> None:
    journal = Journal()
    journal.begin(BLOB, "for a client", 0.0)
    for tenth in range(5):
        journal.redirected(BLOB, PEER, 2, [b"q" * 32], tenth / 10)
    events = list(journal.stories[BLOB].events)
    assert [(e.what, e.count) for e in events[1:]] == [(REDIRECTED, 5)]
    assert journal.stories[BLOB].shares[PEER].redirected == 10


def test_what_is_kept_is_bounded() -> None:
    journal = Journal()
    journal.begin(BLOB, "for a client", 0.0)
    for number in range(3 * EVENTS_MAX):
        journal.note(BLOB, "found", PEER, str(number), float(number))
        journal.gave(BLOB, number.to_bytes(32, "big"), 1, float(number), useful=True)
    story = journal.stories[BLOB]
    assert len(story.events) == EVENTS_MAX
    assert story.forgotten == 2 * EVENTS_MAX + 1
    assert len(story.shares) <= SOURCES_MAX + 1
    assert sum(share.received for share in story.shares.values()) == 3 * EVENTS_MAX
    for number in range(2 * STORIES_MAX):
        blob = number.to_bytes(32, "big")
        journal.begin(blob, "by policy", 1.0)
        journal.end(blob, "complete", 1, 2.0)
    assert len(journal.stories) == STORIES_MAX
    assert BLOB in journal.stories  # still on its way


def test_a_new_beginning_is_a_new_story() -> None:
    journal = Journal()
    journal.begin(BLOB, "for a client", 1.0)
    journal.begin(BLOB, "by policy", 2.5)
    assert len(journal.stories[BLOB].events) == 2
    journal.end(BLOB, "given up", 0, 3.0)
    journal.begin(BLOB, "by policy", 9.0)
    assert journal.stories[BLOB].began == 9.0


def test_nothing_is_written_of_what_nobody_wants() -> None:
    journal = Journal()
    journal.note(BLOB, ASKED, PEER, "", 1.0)
    journal.asked(BLOB, PEER, "", 1.0)
    journal.gave(BLOB, PEER, 1, 1.0, useful=True)
    journal.end(BLOB, "complete", 1, 1.0)
    journal.found(BLOB, PEER, 1, 1.0)
    assert not journal.stories


def test_totals_count_what_is_no_longer_told() -> None:
    journal = Journal()
    journal.begin(BLOB, "for a client", 0.0)
    journal.gave(BLOB, PEER, 100, 1.0, useful=True)
    journal.gave(BLOB, PEER, 7, 1.0, useful=False)
    journal.stalled(BLOB, PEER, "nothing", 2.0)
    journal.redirected(BLOB, PEER, 5, [], 2.0)
    journal.bad(BLOB, PEER, "other bytes", 3.0)
    journal.end(BLOB, "given up", 0, 4.0)
    journal.end(BLOB, COMPLETE, 100, 5.0)
    assert journal.totals == Totals(100, 7, 1, 1, 1, 5, 1)
