"""Errors as the CNI specification (1.1, "Error") wants them."""

from __future__ import annotations

import enum

import msgspec


class Code(enum.IntEnum):
    """Those below 100 are the specification's, 999 is libcni's; the others are ours."""

    INCOMPATIBLE_VERSION = 1
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    UNDECODABLE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    KERNEL_REFUSED = 100
    NO_ADDRESS = 101
    """The operator has refused the pod an address, and says why."""
    CHECK_FAILED = 102
    INTERNAL = 999


class CniError(Exception):
    """What the runtime is told; for invalid input the message names field and value."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code

    def encode(self, version: str) -> bytes:
        error = {"cniVersion": version, "code": int(self.code), "msg": str(self)}
        return msgspec.json.encode(error) + b"\n"
