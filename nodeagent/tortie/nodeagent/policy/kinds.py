"""What a packet is, apart from its ends: sets of destination ports, of ICMP messages and of other protocols.

All kinds lie in six rows of numbers: destination ports of TCP, UDP and SCTP, type × 256 + code of ICMP and ICMPv6,
numbers of all protocols. Seen from the source, the first three are source ports and everything else is its protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tortie.api import protocols
from tortie.api.compiled import ICMP
from tortie.api.protocols import Span

Spans = tuple[Span, ...]
"""Disjoint and in order."""
Named = Iterable[tuple[int, int]]
"""Protocol and number of what a named port stands for somewhere."""

ROWS = {protocols.TCP: 0, protocols.UDP: 1, protocols.SCTP: 2, protocols.ICMP: 3, protocols.ICMPV6: 4}
OTHERS = 5
SIZES = (65536, 65536, 65536, 65536, 65536, 256)
WITH_PORTS = range(3)


@dataclass(frozen=True)
class KindSet:
    rows: tuple[Spans, ...]

    def __or__(self, other: KindSet) -> KindSet:
        return KindSet(tuple(_union((*a, *b)) for a, b in zip(self.rows, other.rows, strict=True)))

    def __sub__(self, other: KindSet) -> KindSet:
        return KindSet(tuple(_minus(a, b) for a, b in zip(self.rows, other.rows, strict=True)))

    def __and__(self, other: KindSet) -> KindSet:
        return self - (self - other)

    def __bool__(self) -> bool:
        return any(self.rows)


NONE = KindSet(((),) * len(SIZES))
ALL = KindSet(tuple(((0, size - 1),) for size in SIZES))


def _only(rows: Iterable[int], spans: Iterable[Span]) -> KindSet:
    merged, within = _union(spans), set(rows)
    return KindSet(tuple(merged if row in within else () for row in range(len(SIZES))))


def of_protocol(number: int) -> KindSet:
    if number in ROWS:
        return _only([ROWS[number]], [(0, 65535)]) | _only([OTHERS], [(number, number)])
    return _only([OTHERS], [(number, number)])


def of_ports(texts: Sequence[str], named: Named) -> KindSet:
    """Numbers and ranges among `texts`, for every protocol that has ports, and what the names stand for."""
    spans = (span(text) for text in texts if not is_name(text))
    found = _only(WITH_PORTS, spans)
    for protocol, port in named:
        if protocol in protocols.WITH_PORTS:
            found |= _only([ROWS[protocol]], [(port, port)])
    return found


def of_icmp(icmp: ICMP) -> KindSet:
    first = icmp.type * 256 + (icmp.code or 0)
    return _only([3, 4], [(first, first if icmp.code is not None else first + 255)])


def is_name(text: str) -> bool:
    return not text.partition(":")[0].isdecimal()


def span(text: str) -> Span:
    first, _, last = text.partition(":")
    return int(first), int(last or first)


def partition(sets: Iterable[KindSet]) -> Iterator[tuple[int, Span, frozenset[KindSet]]]:
    """All kinds as (row, numbers, the sets that they are in)."""
    distinct = set(sets)
    for row, size in enumerate(SIZES):
        turns: dict[int, tuple[set[KindSet], set[KindSet]]] = {0: (set(), set())}
        for each in distinct:
            for first, last in each.rows[row]:
                turns.setdefault(first, (set(), set()))[0].add(each)
                turns.setdefault(last + 1, (set(), set()))[1].add(each)
        inside: frozenset[KindSet] = frozenset()
        starts = sorted(at for at in turns if at < size)
        for start, end in zip(starts, [*starts[1:], size], strict=True):
            comes, goes = turns[start]
            inside = (inside - goes) | comes
            yield row, (start, end - 1), inside


def _union(spans: Iterable[Span]) -> Spans:
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def _minus(spans: Spans, others: Spans) -> Spans:
    found: list[Span] = []
    for first, last in spans:
        for off, end in others:
            if end < first or off > last:
                continue
            if off > first:
                found.append((first, off - 1))
            first = end + 1
        if first <= last:
            found.append((first, last))
    return tuple(found)
