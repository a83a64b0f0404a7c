"""Which block a node claims next, and which it gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_network

from tortie.api.calico import IPPool
from tortie.operator.ipam.pools import network, within

BLOCKS_PER_HOST = 20
"""Calico's built-in limit when maxBlocksPerHost is 0, per family."""


def ahead(pool: IPPool) -> int:
    """Free addresses below which a node claims its next block before it needs it: 8, or a quarter of a small block."""
    bits = (128 if ":" in pool.spec.cidr else 32) - pool.block_size
    return min(8, (1 << bits) // 4)


def candidates(pool: IPPool, node: str, taken: Collection[str], reserved: Collection[str] = ()) -> Iterator[str]:
    """Free blocks of a pool, beginning at a place that depends on the node, so that nodes do not meet.

    Skips blocks that are reserved as a whole, a reservation at a time: an IPv6 pool has more blocks than can be tried.
    """
    net = network(pool.spec.cidr)
    bits = net.max_prefixlen - pool.block_size
    count = 1 << (pool.block_size - net.prefixlen)
    start = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8]) % count
    first = int(net.network_address)
    step = 0
    while step < count:
        number = first + (((start + step) % count) << bits)
        block = str(ip_network((number.to_bytes(net.max_prefixlen // 8), pool.block_size)))
        cover = next((network(cidr) for cidr in reserved if within(block, cidr)), None)
        if cover is not None:
            end = min(int(cover.broadcast_address), int(net.broadcast_address))
            step += max(1, (end - number + 1) >> bits)
            continue
        if block not in taken:
            yield block
        step += 1


def surplus(free: Mapping[str, int], sizes: Mapping[str, int], keep: int, unwanted: Collection[str]) -> Sequence[str]:
    """Blocks of a node and family that it gives back; all maps are by CIDR of its blocks.

    Only empty ones: those that no pool wants here any more (`unwanted`), and the last ones of those that would not be
    missed: without them there still is a whole block's worth of free addresses beside the `keep` kept ahead of need.
    """
    empty = [block for block in sorted(free) if free[block] == sizes[block]]
    given = [block for block in empty if block in unwanted]
    left = sum(count for block, count in free.items() if block not in unwanted)
    for block in reversed([block for block in empty if block not in unwanted]):
        if left - sizes[block] >= sizes[block] + keep:
            given.append(block)
            left -= sizes[block]
    return given
