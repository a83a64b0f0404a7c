"""What the API server refuses, or what keeps us from asking it."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class ApiError(Exception):
    """A request without success; the message is what the API server said.

    `status` is the HTTP status, 0 without an answer: `reason` is then Timeout or Connection. Otherwise `reason` is
    the API server's (`metav1.StatusReason`), or Undecodable for an answer that is not what was asked for.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: the object is no longer what the write was computed from (or a precondition of a deletion fails)."""


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists."""


class Expired(ApiError):
    """410: etcd has compacted that resourceVersion; only a new list helps."""


class Status(msgspec.Struct):
    """`metav1.Status`: the body of a refusal, and the object of a watch's ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""

    KINDS: ClassVar[dict[int, type[ApiError]]] = {404: NotFound, 409: Conflict, 410: Expired}

    def error(self) -> ApiError:
        kind = AlreadyExists if self.reason == "AlreadyExists" else self.KINDS.get(self.code, ApiError)
        return kind(self.code, self.reason or "Unknown", self.message)


def refusal(status: int, body: bytes) -> ApiError:
    """The error of an answer that is no success; whatever stands between may have written the body."""
    try:
        said = msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        said = Status(message=body[:500].decode(errors="replace"))
    said.code = status
    return said.error()
