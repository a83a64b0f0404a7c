"""What programs and agent share, seen from here: names, packing, numbers. Mirrors bpf/*maps.h and bpf/drops.h, which
tests/datapath/test_bpf_layout.py compares with this.

Addresses are in network order, IPv4 ones in a set of both families as ::ffff:a.b.c.d.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import ip_address, ip_network

from tortie.nodeagent.desired import State

FORMAT = 1
ENDPOINTS = f"endpoints_v{FORMAT}"
NODES = f"nodes_v{FORMAT}"
DROPS = f"drops_v{FORMAT}"
PASSED = f"passed_v{FORMAT}"
SWITCH = f"switch_v{FORMAT}"
POLICIES = f"policies_v{FORMAT}"
ADDRESSES = {4: f"addresses4_v{FORMAT}", 6: f"addresses6_v{FORMAT}"}
NETS = {4: f"nets4_v{FORMAT}", 6: f"nets6_v{FORMAT}"}
KINDS = f"kinds_v{FORMAT}"
STACKS = f"stacks_v{FORMAT}"
ROWS = f"rows_v{FORMAT}"
LINES = f"lines_v{FORMAT}"
ATOMS = f"atoms_v{FORMAT}"
RULES = f"rules_v{FORMAT}"
CONNS = f"conns_v{FORMAT}"
FRAGMENTS = f"fragments_v{FORMAT}"
POLICY_ARRAYS = (SWITCH, KINDS, STACKS, ROWS, LINES, ATOMS)
"""Mapped into memory and written there."""
POLICY_HASHES = (POLICIES, *ADDRESSES.values(), *NETS.values())
MAPS = (ENDPOINTS, NODES, DROPS, PASSED, *POLICY_ARRAYS, *POLICY_HASHES, RULES, CONNS, FRAGMENTS)

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
    7: "policy",
    8: "unknown",
    9: "no-policy",
    10: "table-full",
    11: "fragment",
    12: "too-long",
}
"""`enum verdict` → label of the metric. 0 lets pass."""
REASONS_ROOM = 16

ENDPOINT = struct.Struct("=I4s16s6sH")
"""state, ipv4, ipv6, mac, flags"""
COUNTER = struct.Struct("=QQ")
"""packets, bytes"""
ENTRIES = {KINDS: 5 * 65536 + 256, STACKS: 16384, ROWS: 524288, LINES: 262144, ATOMS: 262144, RULES: 32768}
WORDS = struct.Struct("=4Q")
"""Ingress and egress of column 0, of column 1."""
CLASSES = struct.Struct("=Q")
"""Of an address: 24 bits a column and 16 bits of check. Of a kind: 32 bits a column."""
STACK = struct.Struct("=6IQ")
"""First row of source, destination, kind and source kind; first atom; number of atoms."""
ROW = struct.Struct("=QII")
"""Mask of lines, first line, present."""
LINE = 64
"""Bytes."""
LINE_ATOMS, MOST_LINES = 512, 64
ATOM = struct.Struct("=HHIQ")
"""action, next, rule, id"""
ACTIONS = {"Allow": 1, "Deny": 2, "Log": 3, "Pass": 4}
UNCONSTRAINED = 0xFFFFFFFF
MISSING, UNKNOWN = 0, 1
"""Classes of addresses that drop."""
CONN_KEY = struct.Struct("=16s16sHHB3x")
"""Addresses and ports of both ends, protocol."""
CONN = struct.Struct("=QQ2I2IBBBxI16sH6x4Q")
"""expires, created, epochs, rules, format, flags, tcp, service, to, port, packets and bytes from `a` and from `b`"""
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


def net_key(cidr: str) -> bytes:
    net = ip_network(cidr)
    return struct.pack("=I", net.prefixlen) + net.network_address.packed


def check(packed: bytes) -> int:
    """Of an address in ADDRESSES: its 32-bit words folded to 16 bits."""
    folded = 0
    for (word,) in struct.iter_unpack("=I", packed):
        folded ^= word
    return (folded ^ folded >> 16) & 0xFFFF


def word(ifindex: int, stack: int, epoch: int) -> int:
    return epoch << 32 | stack << 16 | ifindex & 0xFFFF


def in_force(column: int, rooms: tuple[int, int]) -> int:
    """Value of SWITCH."""
    return column | rooms[0] << 8 | rooms[1] << 32


def drops_key(program: str, reason: int) -> bytes:
    return array_key(PROGRAMS.index(program) * REASONS_ROOM + reason)


def array_key(index: int) -> bytes:
    return struct.pack("=I", index)
