"""The S3 calls a blob store makes, blocking, with errors a client can be told.

boto3 takes half a second to import, so that only happens in connect().

Spec: Amazon S3 API reference 2006-03-01 (multipart upload: up to 10,000 parts of 5 MiB and more).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from store.errors import (
    BlobUnknownError,
    ReadOnlyError,
    RegistryError,
    StoreFullError,
    UnavailableError,
)

MISSING = {"404", "NoSuchKey", "NotFound", "NoSuchUpload"}
FORBIDDEN = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
FULL = {"507", "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
BEYOND = {"416", "InvalidRange"}

PART_SIZE = 8 << 20  # bytes of the first parts; doubles with every PARTS_STEP parts
PARTS_STEP = 2500  # so that 10,000 parts hold 290 GiB


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object of a listing.  ``modified`` is in seconds since 1970."""

    key: str
    size: int
    modified: float


def part_size(number: int) -> int:
    """Return the size of part ``number``, counted from 1."""
    return PART_SIZE << ((number - 1) // PARTS_STEP)


@contextmanager
def s3_errors() -> Iterator[None]:
    """Turn what boto3 raises into BlobUnknownError and the kinds of UnavailableError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in MISSING:
            raise BlobUnknownError("no such blob in the bucket") from error
        if code in FORBIDDEN:
            raise ReadOnlyError("the bucket refuses this node's credentials") from error
        if code in FULL:
            raise StoreFullError("no space left in the bucket") from error
        raise UnavailableError(f"object storage answered {code}") from error
    except BotoCoreError as error:
        raise UnavailableError("object storage cannot be reached") from error


class Bucket:
    """One bucket.  Every method blocks, and raises RegistryErrors; safe in several threads."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    @classmethod
    def connect(cls, name: str, **options: Any) -> Bucket:
        """Make a client and check that the bucket is there.  Raises UnavailableError.

        ``options`` are boto3's ``endpoint_url``, ``region_name`` and credentials; what is None
        comes from the environment, as with any other AWS tool.
        """
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 4},
            max_pool_connections=64,
            s3={"addressing_style": "path" if options.get("endpoint_url") else "auto"},
        )
        with s3_errors():
            bucket = cls(boto3.session.Session().client("s3", config=config, **options), name)
        try:
            with s3_errors():
                bucket.client.head_bucket(Bucket=name)
        except BlobUnknownError as error:
            raise UnavailableError(f"there is no bucket {name}") from error
        return bucket

    def size(self, key: str) -> int:
        """Return an object's length.  Raises BlobUnknownError."""
        with s3_errors():
            return int(self.client.head_object(Bucket=self.name, Key=key)["ContentLength"])

    def modified(self, key: str) -> float:
        """Return when an object was written, in seconds since 1970.  Raises BlobUnknownError."""
        with s3_errors():
            head = self.client.head_object(Bucket=self.name, Key=key)
            return float(head["LastModified"].timestamp())

    def open(self, key: str, start: int, stop: int | None) -> Any:
        """Return a streaming body of bytes ``[start, stop)``; None if there are none.

        Raises BlobUnknownError.
        """
        if stop is not None and stop <= start:
            self.size(key)  # an empty range of an unknown blob is still unknown
            return None
        span = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        if (start, stop) == (0, None):
            span = {}
        from botocore.exceptions import ClientError

        with s3_errors():
            try:
                return self.client.get_object(Bucket=self.name, Key=key, **span)["Body"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in BEYOND:
                    return None
                raise

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Write a small object; it is visible at once and whole."""
        with s3_errors():
            self.client.put_object(Bucket=self.name, Key=key, Body=bytes(data))

    def upload(self, file: str, key: str) -> None:
        """Write an object from a file, in parts; it is visible at the end, whole."""
        from boto3.exceptions import S3UploadFailedError

        with s3_errors():
            try:
                self.client.upload_file(file, self.name, key)
            except S3UploadFailedError as error:
                raise error.__context__ or error from None

    def move(self, source: str, target: str) -> None:
        """Give an object another key, on the server."""
        with s3_errors():
            self.client.copy({"Bucket": self.name, "Key": source}, self.name, target)
            self.client.delete_object(Bucket=self.name, Key=source)

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        with s3_errors():
            self.client.delete_object(Bucket=self.name, Key=key)

    def list(self, prefix: str) -> list[S3Object]:
        """Return the objects whose keys begin with ``prefix``."""
        with s3_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix
            )
            return [
                S3Object(one["Key"], one["Size"], one["LastModified"].timestamp())
                for page in pages
                for one in page.get("Contents", ())
            ]

    def sweep(self, prefix: str, temporary: str) -> None:
        """Abort unfinished uploads below ``prefix`` and delete objects below ``temporary``."""
        with s3_errors():
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.name, Prefix=prefix
            )
            for page in pages:
                for one in page.get("Uploads", ()):
                    Multipart(self, one["Key"], one["UploadId"]).abort()
        for left in self.list(temporary):
            self.delete(left.key)


class Multipart:
    """An upload in parts: nothing is visible before complete()."""

    def __init__(self, bucket: Bucket, key: str, upload: str) -> None:
        self.key = key
        self._bucket = bucket
        self._upload = upload
        self._parts: list[dict[str, Any]] = []

    @classmethod
    def begin(cls, bucket: Bucket, key: str) -> Multipart:
        """Start an upload."""
        with s3_errors():
            made = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
        return cls(bucket, key, made["UploadId"])

    def add(self, data: bytes | bytearray) -> None:
        """Send the next part."""
        number = len(self._parts) + 1
        with s3_errors():
            part = self._bucket.client.upload_part(
                **self._names, PartNumber=number, Body=bytes(data)
            )
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})

    @property
    def next_size(self) -> int:
        """The size the next part should have."""
        return part_size(len(self._parts) + 1)

    def complete(self) -> None:
        """Make the object visible."""
        with s3_errors():
            self._bucket.client.complete_multipart_upload(
                **self._names, MultipartUpload={"Parts": self._parts}
            )

    def abort(self) -> None:
        """Drop the parts; failing that, the next start does."""
        with suppress(RegistryError), s3_errors():
            self._bucket.client.abort_multipart_upload(**self._names)

    @property
    def _names(self) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self.key, "UploadId": self._upload}
