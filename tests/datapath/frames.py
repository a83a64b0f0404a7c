"""Ethernet frames, byte by byte. Addresses are text; checksums above IP are left out: no program looks at them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

POD_MAC, HOST_MAC = bytes.fromhex("020000000001"), bytes.fromhex("eeeeeeeeeeee")
IPV4, ARP, IPV6, VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ICMP, TCP, UDP, ICMP6, HOP_BY_HOP, FRAGMENT = 1, 6, 17, 58, 0, 44
SYN, ACK, RST = 0x02, 0x10, 0x04
SOLICIT, ADVERT, ROUTER_SOLICIT, ROUTER_ADVERT, REDIRECT, MLD2_REPORT = 135, 136, 133, 134, 137, 143
ALL_ROUTERS, ALL_NODES, MLD_ROUTERS = "ff02::2", "ff02::1", "ff02::16"


def packed(address: str) -> bytes:
    return ip_address(address).packed


def ethernet(kind: int, payload: bytes) -> bytes:
    return HOST_MAC + POD_MAC + struct.pack("!H", kind) + payload


def ipv4(
    source: str, destination: str, protocol: int, payload: bytes, *, options: bytes = b"", fragment: int = 0
) -> bytes:
    """`fragment` is the field of flags and offset (RFC 791)."""
    length = 20 + len(options)
    start = struct.pack("!BBHHHBB", 0x40 | length // 4, 0, length + len(payload), 7, fragment, 64, protocol)
    end = packed(source) + packed(destination) + options
    return ethernet(IPV4, start + checksum(start + end) + end + payload)


def checksum(data: bytes) -> bytes:
    """Of an even number of bytes (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def ipv6(source: str, destination: str, following: int, payload: bytes, *, hops: int = 64) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(payload), following, hops)
    return ethernet(IPV6, header + packed(source) + packed(destination) + payload)


def tcp(flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 8080, 40000, 1, 2, 5 << 4, flags, 512, 0, 0)


def udp() -> bytes:
    return struct.pack("!HHHH", 53, 40000, 12, 0) + b"data"


def arp(operation: int, sender: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return ethernet(ARP, body + POD_MAC + packed(sender) + bytes(6) + packed(target))


def neighbour(kind: int, target: str) -> bytes:
    """ICMPv6 neighbour solicitation or advertisement."""
    return struct.pack("!BBHI", kind, 0, 0, 0) + packed(target)


def icmp6(kind: int) -> bytes:
    return struct.pack("!BBHI", kind, 0, 0, 0) + bytes(8)


def hop_by_hop(following: int, payload: bytes, *, units: int = 0) -> bytes:
    """Behind a header of 8 + 8 * units bytes, with a router alert as MLD has it."""
    return bytes([following, units]) + bytes.fromhex("050200000100") + bytes(8 * units) + payload


def transport(protocol: int, source_port: int, port: int, kind: int = 0, code: int = 0, flags: int = SYN) -> bytes:
    """Header of a transport protocol: ports, or type and code of ICMP."""
    if protocol == TCP:
        return struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 5 << 4, flags, 512, 0, 0)
    if protocol == UDP:
        return struct.pack("!HHHH", source_port, port, 12, 0) + b"data"
    if protocol == 132:
        return struct.pack("!HHII", source_port, port, 0, 0)
    if protocol in (ICMP, ICMP6):
        return struct.pack("!BBHHH", kind, code, 0, 77, 1) + b"data"
    return bytes(16)
