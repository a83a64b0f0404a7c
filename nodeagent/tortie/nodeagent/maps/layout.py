"""What programs and agent share, seen from here: names, packing, numbers. Mirrors bpf/maps.h and bpf/drops.h, which
tests/datapath/test_bpf_layout.py compares with this.

Addresses are in network order, IPv4 ones in a set of both families as ::ffff:a.b.c.d.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import ip_address

from tortie.nodeagent.desired import State

FORMAT = 1
ENDPOINTS = f"endpoints_v{FORMAT}"
NODES = f"nodes_v{FORMAT}"
DROPS = f"drops_v{FORMAT}"
PASSED = f"passed_v{FORMAT}"
MAPS = (ENDPOINTS, NODES, DROPS, PASSED)

FROM_POD, TO_POD = "from_pod", "to_pod"
PROGRAMS = (FROM_POD, TO_POD)
"""Names of the programs, each in an object file of its own; the order is that of `enum hook`."""

STATES: dict[State, int] = {"PENDING": 1, "OPEN": 2}
REASONS = {
    1: "no-endpoint",
    2: "pending",
    3: "source",
    4: "neighbour",
    5: "ethertype",
    6: "malformed",
}
"""`enum verdict` → label of the metric. 0 lets pass."""
REASONS_ROOM = 16

ENDPOINT = struct.Struct("=I4s16s6sH")
"""state, ipv4, ipv6, mac, flags"""
COUNTER = struct.Struct("=QQ")
"""packets, bytes"""
MEMBER = b"\1"
"""Value in a map that is a set."""


def endpoint_key(ifindex: int) -> bytes:
    return struct.pack("=I", ifindex)


@lru_cache(4096)
def endpoint_value(state: State, ipv4: str, ipv6: str, mac: str) -> bytes:
    """Empty addresses: none of that family. Raises ValueError for what is no address."""
    return ENDPOINT.pack(
        STATES[state],
        ip_address(ipv4).packed if ipv4 else bytes(4),
        ip_address(ipv6).packed if ipv6 else bytes(16),
        bytes.fromhex(mac.replace(":", "")),
        0,
    )


def node_key(address: str) -> bytes:
    packed = ip_address(address).packed
    return bytes(10) + b"\xff\xff" + packed if len(packed) == 4 else packed


def drops_key(program: str, reason: int) -> bytes:
    return array_key(PROGRAMS.index(program) * REASONS_ROOM + reason)


def array_key(index: int) -> bytes:
    return struct.pack("=I", index)
