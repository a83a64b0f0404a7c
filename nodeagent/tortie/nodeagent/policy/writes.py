"""What is to be done to maps, step by step; each step is one that a packet may come between."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Store:
    """Consecutive entries of an array."""

    map: str
    index: int
    data: bytes


@dataclass(frozen=True)
class Put:
    map: str
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Delete:
    map: str
    key: bytes


@dataclass(frozen=True)
class Fence:
    """Wait until no program is still at a packet that it began before."""


Write = Store | Put | Delete | Fence
