"""Every packet there is, and sets of packets as the bits of an integer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_

from .objects import ADDRESSES


@dataclass(frozen=True)
class Kind:
    """What a packet is, apart from its addresses."""

    protocol: int
    sport: int | None = None
    dport: int | None = None
    type: int | None = None
    code: int | None = None


KINDS = [
    Kind(6, 1000, 80),
    Kind(6, 2000, 443),
    Kind(6, 1000, 8080),
    Kind(6, 3000, 53),
    Kind(17, 1000, 53),
    Kind(17, 2000, 80),
    Kind(132, 1000, 80),
    Kind(1, type=8, code=0),
    Kind(1, type=8, code=1),
    Kind(1, type=3, code=1),
    Kind(58, type=128, code=0),
    Kind(47),
]


def family(address: str) -> int:
    return 6 if ":" in address else 4


PACKETS = [(s, d, kind) for s in ADDRESSES for d in ADDRESSES if family(s) == family(d) for kind in KINDS]
ALL = (1 << len(PACKETS)) - 1


def _where(test: Callable[[tuple[str, str, Kind]], bool]) -> int:
    return sum(1 << index for index, packet in enumerate(PACKETS) if test(packet))


FROM = {address: _where(lambda p, a=address: p[0] == a) for address in ADDRESSES}
TO = {address: _where(lambda p, a=address: p[1] == a) for address in ADDRESSES}
OF = {kind: _where(lambda p, k=kind: p[2] == k) for kind in KINDS}
FAMILY = {version: _where(lambda p, v=version: family(p[0]) == v) for version in (4, 6)}


def union(sets: list[int]) -> int:
    return reduce(or_, sets, 0)


def kinds(test: Callable[[Kind], bool]) -> int:
    return union([OF[kind] for kind in KINDS if test(kind)])
