"""Everything a client or a peer may be told went wrong.  Bugs raise something else, and crash.

RegistryError 500
  NotFoundError 404       BlobUnknownError, ManifestUnknownError, PackageUnknownError,
                          RepositoryUnknownError, SessionUnknownError
  RejectedError 400       DigestInvalidError, DigestMismatchError, ManifestInvalidError,
                          NameInvalidError, PathInvalidError, TooLargeError 413,
                          RangeInvalidError 416,
                          UnsupportedError 415, NotAcceptableError 406
  ConflictError 409       VersionExistsError, PreconditionFailedError 412
  MethodNotAllowedError 405
  UnauthorizedError 401   DeniedError 403
  TooManyRequestsError 429
  UnavailableError 503    NoHolderError, ReadOnlyError, StoreFullError 507
  MeshError 502           LocalProtocolError (our bug), RemoteProtocolError (theirs)
  UpstreamError 502       UpstreamDeniedError (an address that must not be asked)
"""

from __future__ import annotations

from typing import ClassVar


class RegistryError(Exception):
    """Base of every error this node reports.  ``status`` is the HTTP status it travels under."""

    status: ClassVar[int] = 500


class NotFoundError(RegistryError):
    """Nobody we can reach has it."""

    status = 404


class BlobUnknownError(NotFoundError):
    """No blob with this digest here, nor on any peer we can reach."""


class ManifestUnknownError(NotFoundError):
    """No manifest under this tag or digest."""


class PackageUnknownError(NotFoundError):
    """No node we know of has announced this package."""


class RepositoryUnknownError(NotFoundError):
    """No such repository, or none that this caller may see."""


class SessionUnknownError(NotFoundError):
    """No such upload session on this node."""


class RejectedError(RegistryError):
    """What the client sent is wrong, and would be wrong tomorrow."""

    status = 400


class DigestInvalidError(RejectedError):
    """The text is not a digest."""


class DigestMismatchError(RejectedError):
    """The bytes do not hash to the digest they were offered under."""

    def __init__(self, expected: object, actual: object) -> None:
        super().__init__(f"expected {expected}, received {actual}")
        self.expected, self.actual = expected, actual


class ManifestInvalidError(RejectedError):
    """A manifest, archive or metadata document breaks its specification."""


class DeltaInvalidError(RejectedError):
    """A delta is damaged, or makes other bytes than it says (docs/delta.md)."""


class DeltaUnfitError(DeltaInvalidError):
    """A delta makes other bytes of the basis that is here: its own fault, the disk's or zlib's."""


class NameInvalidError(RejectedError):
    """A package, version, tag or repository name breaks its ecosystem's rules."""


class PathInvalidError(RejectedError):
    """A request path holds what no path may hold."""


class TooLargeError(RejectedError):
    """More bytes than this route, repository or archive reader allows."""

    status = 413


class RangeInvalidError(RejectedError):
    """The range cannot be satisfied, or an upload chunk is out of order."""

    status = 416


class UnsupportedError(RejectedError):
    """A media type or coding that the route does not take."""

    status = 415


class NotAcceptableError(RejectedError):
    """No representation that the client accepts."""

    status = 406


class ConflictError(RegistryError):
    """The request contradicts what is there."""

    status = 409


class VersionExistsError(ConflictError):
    """The coordinate is taken by other bytes; released coordinates are immutable."""


class PreconditionFailedError(ConflictError):
    """An ``If-Match`` or ``If-None-Match`` on a write does not hold."""

    status = 412


class MethodNotAllowedError(RegistryError):
    """The path exists, the method does not apply to it."""

    status = 405


class UnauthorizedError(RegistryError):
    """Credentials are missing or wrong, and right ones could help."""

    status = 401


class DeniedError(RegistryError):
    """The credentials are valid and not sufficient."""

    status = 403


class TooManyRequestsError(RegistryError):
    """A rate limit.  ``retry_after`` is in seconds."""

    status = 429

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(RegistryError):
    """It would work at another time."""

    status = 503


class NoHolderError(UnavailableError):
    """The bytes are known, but nobody reachable holds them."""


class PendingError(UnavailableError):
    """It waits for somebody else's word; asking again later helps."""


class NotReplicatedError(UnavailableError):
    """Committed here, but not confirmed by as many members as were asked for, in time."""

    status = 504


class ReadOnlyError(UnavailableError):
    """The disk refuses writes."""


class StoreFullError(UnavailableError):
    """No space left."""

    status = 507


class MeshError(RegistryError):
    """A link failed us."""

    status = 502


class LocalProtocolError(MeshError):
    """We broke the protocol: a bug of ours."""


class RemoteProtocolError(MeshError):
    """A peer broke the protocol.  Drop the link."""


class UpstreamError(RegistryError):
    """An upstream did not answer, or not with what may be passed on."""

    status = 502


class UpstreamDeniedError(UpstreamError):
    """The upstream has an address, or leads to one, that this node must not ask."""
