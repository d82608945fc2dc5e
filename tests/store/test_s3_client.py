from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from store.errors import (
    BlobUnknownError,
    ReadOnlyError,
    RegistryError,
    StoreFullError,
    UnavailableError,
)
from store.s3_client import PART_SIZE, PARTS_STEP, part_size, s3_errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NoSuchKey", BlobUnknownError),
        ("404", BlobUnknownError),
        ("AccessDenied", ReadOnlyError),
        ("QuotaExceeded", StoreFullError),
        ("InternalError", UnavailableError),
    ],
)
def test_error_codes(code: str, kind: type[RegistryError]) -> None:
    with pytest.raises(kind) as caught, s3_errors():
        raise ClientError({"Error": {"Code": code}}, "GetObject")
    assert type(caught.value) is kind


def test_a_silent_server_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"), s3_errors():
        raise ConnectTimeoutError(endpoint_url="s3")


def test_part_sizes_double() -> None:
    assert part_size(1) == part_size(PARTS_STEP) == PART_SIZE
    assert part_size(PARTS_STEP + 1) == 2 * PART_SIZE
