"""Which block a node claims next, and which it gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_network

from tortie.api.calico import IPPool
from tortie.operator.ipam.pools import network, span, version

BLOCKS_PER_HOST = 20
"""Calico's built-in limit when maxBlocksPerHost is 0, per family."""


def ahead(pool: IPPool) -> int:
    """Free addresses below which a node claims its next block before it needs it: 8, or a quarter of a small block."""
    bits = (128 if ":" in pool.spec.cidr else 32) - pool.block_size
    return min(8, (1 << bits) // 4)


def candidates(pool: IPPool, node: str, taken: Collection[str], reserved: Collection[str] = ()) -> Iterator[str]:
    """Free blocks of a pool, beginning at a place that depends on the node, so that nodes do not meet.

    Skips what overlaps a block of `taken`, of whatever size (the pool may have been made anew with another), and what
    lies in a network of `reserved`; big ones at a bound: an IPv6 pool has more blocks than can be tried.
    """
    net = network(pool.spec.cidr)
    bits = net.max_prefixlen - pool.block_size
    count = 1 << pool.block_size >> net.prefixlen
    if count == 0:
        return
    first, _ = span(pool.spec.cidr)
    small, large = _numbers(pool.spec.cidr, bits, taken, reserved)
    start = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8]) % count
    step = 0
    while step < count:
        number = (start + step) % count
        cover = next((places for places in large if number in places), None)
        if cover is not None:
            step += cover.stop - number
        else:
            if number not in small:
                address = (first + (number << bits)).to_bytes(net.max_prefixlen // 8)
                yield str(ip_network((address, pool.block_size)))
            step += 1


def _numbers(cidr: str, bits: int, taken: Iterable[str], reserved: Iterable[str]) -> tuple[set[int], list[range]]:
    """Numbers of the blocks of `cidr` that are not to be had: one by one, and by runs.

    One that is reserved in part is to be had, one that is taken in part is not.
    """
    first, last = span(cidr)
    small: set[int] = set()
    large: list[range] = []
    for other, whole in (*((each, False) for each in taken), *((each, True) for each in reserved)):
        start, end = span(other)
        if version(other) != version(cidr) or end < first or start > last:
            continue
        lowest, highest = (max(start, first) - first) >> bits, (min(end, last) - first) >> bits
        if lowest < highest:
            large.append(range(lowest, highest + 1))
        elif not whole or (end - start + 1) >> bits:
            small.add(lowest)
    return small, large


def surplus(free: Mapping[str, int], sizes: Mapping[str, int], empty: Collection[str], keep: int) -> list[str]:
    """Which of the `empty` blocks a node gives back, of blocks that serve the same pods; maps are by CIDR.

    The last ones that would not be missed: without them there still is a whole block's worth of free addresses beside
    the `keep` kept ahead of need.
    """
    left = sum(free.values())
    given: list[str] = []
    for block in sorted(empty, reverse=True):
        if left - free[block] >= sizes[block] + keep:
            given.append(block)
            left -= free[block]
    return given
