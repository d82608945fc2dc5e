"""The bookkeeping of one blob: manifests from strangers above all."""

from __future__ import annotations

import pytest

from mesh.download import (
    EMPTY,
    LIE_PAUSE,
    LIE_PAUSE_MAX,
    LIES_MAX,
    Download,
    Holder,
)
from mesh.messages import COMPLETE
from store.chunks import Manifest
from store.digest import Digest
from store.errors import ManifestInvalidError
from tests.mesh.world import CHUNK, blob

HELD = blob(10)[0]


def make(manifest: bytes = HELD.id, size: int = HELD.size) -> Download:
    return Download(HELD.blob.raw, size, manifest, bool(manifest), 0.0)


def test_a_manifest_comes_page_by_page() -> None:
    download = make()
    assert not download.settle_manifest()
    assert list(download.pages_wanted()) == [0, 1]
    download.page(0, HELD.root.encode(), b"p")
    assert list(download.pages_wanted()) == [1]
    download.page(1, HELD.page(0), b"p")
    assert download.manifest == HELD
    assert download.length(0, 10) == HELD.size
    assert download.chunk_at(CHUNK) == 1
    assert download.chunk_at(HELD.size) == 10


def test_a_page_that_is_not_answered_is_asked_for_again() -> None:
    download = make()
    download.asked_pages[0] = (b"p", 3.0)
    assert download.lapse(1.0) == set()
    assert list(download.pages_wanted()) == [1]
    assert download.lapse(3.0) == {b"p"}
    assert list(download.pages_wanted()) == [0, 1]


def test_a_page_that_comes_late_is_taken_from_who_was_asked_for_it() -> None:
    """Two slow holders that are asked in turn would otherwise never give anything."""
    download = make()
    download.asked_pages[0] = (b"p", 3.0)
    download.lapse(3.0)
    download.asked_pages[0] = (b"q", 6.0)
    assert download.expects(0, b"p")
    assert download.expects(0, b"q")
    assert not download.expects(0, b"r")
    assert not download.page(0, HELD.root.encode(), b"p")  # not in time
    assert not download.expects(0, b"q")
    assert download.root == HELD.root


def test_what_was_asked_by_one_manifest_is_not_expected_by_the_next() -> None:
    download = make()
    download.asked_pages = {0: (b"p", 3.0), 1: (b"q", 9.0)}
    download.lapse(3.0)
    download.pages[1] = b"of the first"
    download.readers, download.tried = (7,), True
    download.forget_manifest()
    assert not download.readers, "the next may have fewer chunks"
    assert not download.tried
    assert not download.pages
    assert not any(download.expects(number, peer) for number in (0, 1) for peer in (b"p", b"q"))
    assert list(download.pages_wanted()) == [0, 1]


def test_the_size_on_hearsay_is_what_the_root_says() -> None:
    download = Download(HELD.blob.raw, 0, b"", False, 0.0)
    download.holders[b"1"] = Holder(COMPLETE, 999_999, HELD.id)
    download.choose_manifest()
    assert download.size == 999_999
    download.page(0, HELD.root.encode(), b"1")
    download.page(1, HELD.page(0), b"1")
    assert download.size == HELD.size


def test_a_small_size_on_hearsay_makes_no_manifest_that_nobody_named() -> None:
    download = Download(HELD.blob.raw, 1, b"", False, 0.0)
    assert not download.settle_manifest()
    whole = Manifest.whole(HELD.blob, 1)
    download.holders[b"1"] = Holder(COMPLETE, 1, whole.id)
    download.choose_manifest()
    assert download.settle_manifest()
    assert not download.authenticated, "its size is a claim"
    download.vouch(HELD.size, HELD.id)
    assert download.authenticated
    assert download.manifest is None
    assert (download.size, download.manifest_id) == (HELD.size, HELD.id)


def test_a_size_that_a_record_names_keeps_other_sizes_out() -> None:
    download = Download(HELD.blob.raw, HELD.size, b"", False, 0.0, named=HELD.size)
    download.holders[b"1"] = Holder(COMPLETE, 999_999, b"x" * 32)
    download.choose_manifest()
    assert not download.manifest_id
    download.holders[b"2"] = Holder(COMPLETE, HELD.size, HELD.id)
    download.choose_manifest()
    assert download.manifest_id == HELD.id
    assert not download.holders[b"1"].bad


def test_a_record_that_names_what_is_fetched_already_drops_nothing() -> None:
    download = make()
    download.authenticated = False
    download.take_manifest(HELD)
    assert download.agrees(0, HELD.id)
    download.vouch(HELD.size, HELD.id)
    assert download.authenticated
    assert download.manifest == HELD


@pytest.mark.parametrize("vain", [0, 1])
def test_who_named_one_in_vain_comes_after_all_who_did_not(vain: int) -> None:
    download = make(b"", 0)
    for name, manifest in ((b"1", b"x" * 32), (b"2", b"x" * 32), (b"3", HELD.id)):
        download.holders[name] = Holder(COMPLETE, HELD.size, manifest)
    for name in (b"1", b"2"):
        download.holders[name].vain = vain
        download.holders[name].turns = 1
        download.holders[name].manifest = b"z" * 32  # by another name
    download.choose_manifest()
    assert download.manifest_id == HELD.id


def test_a_record_that_names_what_proved_wrong_is_believed_no_more() -> None:
    download = make()
    download.take_manifest(HELD)
    download.forget_manifest()
    assert not download.authenticated
    other = blob(10, seed=3)[0].id
    download.vouch(HELD.size, HELD.id)
    assert (download.authenticated, download.manifest_id) == (False, b"")
    download.vouch(HELD.size, other)
    assert (download.authenticated, download.manifest_id) == (True, other)


def test_what_was_put_off_by_one_manifest_is_not_by_the_next() -> None:
    download = make()
    holder = download.holders[b"p"] = Holder(COMPLETE, HELD.size, HELD.id, redirected=7)
    holder.defer(3, 99.0)
    download.forget_manifest(wrong=False)
    assert (holder.redirected, holder.deferring(0.0)) == (0, 0)


def test_the_first_page_may_come_before_the_root() -> None:
    download = make()
    download.page(1, HELD.page(0), b"p")
    assert download.manifest is None
    download.page(0, HELD.root.encode(), b"p")
    assert download.manifest == HELD
    other = make()
    other.page(1, b"something else", b"p")
    other.page(0, HELD.root.encode(), b"q")
    assert list(other.pages_wanted()) == [1]


@pytest.mark.parametrize("page", [b"", b"\xc0", blob(10, seed=2)[0].root.encode()])
def test_another_root_is_refused(page: bytes) -> None:
    with pytest.raises(ManifestInvalidError):
        make().page(0, page, b"p")


def test_another_size_is_refused() -> None:
    with pytest.raises(ManifestInvalidError):
        make(size=HELD.size + 1).page(0, HELD.root.encode(), b"p")


def test_small_blobs_need_no_manifest() -> None:
    small = Download(Digest.of(b"x").raw, 1, b"", False, 0.0, named=1)
    assert small.settle_manifest()
    assert small.authenticated
    assert small.count == 1
    empty = Download(EMPTY, 0, b"", authenticated=False, started=0.0)
    assert empty.settle_manifest()
    assert empty.count == 0


def test_without_a_record_the_manifest_most_holders_name_is_believed() -> None:
    download = make(b"", 0)
    for name, manifest in ((b"1", b"x" * 32), (b"2", HELD.id), (b"3", HELD.id)):
        download.holders[name] = Holder(COMPLETE, HELD.size, manifest)
    download.choose_manifest()
    assert download.manifest_id == HELD.id
    download.take_manifest(HELD)
    download.manifest_from.add(b"2")
    assert download.forget_manifest() == {b"2"}
    download.choose_manifest()
    assert download.manifest_id == b"x" * 32
    assert not download.usable_holder(download.holders[b"2"])


def test_progress_is_counted_in_verified_bytes() -> None:
    download = make()
    assert download.verified == 0
    download.take_manifest(HELD)
    download.have = 0b101
    assert download.verified == 2 * CHUNK
    assert isinstance(download.manifest, Manifest)


def test_who_has_not_answered_yet_has_not_lied() -> None:
    """A signed record names the manifest while a search on hearsay is under way."""
    download = Download(b"b" * 32, 0, b"", False, 0.0)
    download.holders = {b"p" * 32: Holder(), b"q" * 32: Holder(answered=True)}
    assert download.forget_manifest() == set()
    assert not any(holder.bad for holder in download.holders.values())
    assert not download.refused


def test_who_had_not_what_it_said_is_asked_again_ever_later() -> None:
    """Its disk may have failed for a while, and all of it be there by now."""
    holder, now, pauses = Holder(COMPLETE, HELD.size, HELD.id), 0.0, []
    for _ in range(LIES_MAX - 1):
        holder.lied(now)
    assert holder.gives
    for _ in range(12):
        holder.lied(now)
        assert not holder.gives
        now, before = holder.forgiven_at, now
        holder.forgive(now - 0.1)
        assert not holder.gives
        holder.forgive(now)
        assert holder.gives
        assert holder.again_at == now
        pauses.append(now - before)
    assert pauses[:3] == [LIE_PAUSE, 2 * LIE_PAUSE, 4 * LIE_PAUSE]
    assert max(pauses) == LIE_PAUSE_MAX


def test_who_gave_a_wrong_manifest_is_not_forgiven() -> None:
    holder = Holder(COMPLETE, HELD.size, HELD.id, bad=True)
    for _ in range(LIES_MAX):
        holder.lied(0.0)
    holder.forgive(1e9)
    assert not holder.gives
