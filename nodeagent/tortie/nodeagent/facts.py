"""What this node is, as far as its kernel tells: uplinks, addresses with prefixes, MTU. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_interface

NO_MATCH_MTU = 1460
"""Calico's host MTU when it finds no interface to go by (felix int_dataplane.go)."""
WORKLOAD_PREFIX = "cali"


@dataclass(frozen=True)
class VxlanAttributes:
    """What cannot be changed on a VXLAN device once it is made (drivers/net/vxlan); `parent` is an ifindex."""

    vni: int
    port: int
    local: str
    parent: int
    learning: bool


@dataclass(frozen=True)
class Device:
    index: int
    name: str
    kind: str
    """veth, vxlan … or empty for hardware."""
    mac: str
    mtu: int
    up: bool
    vxlan: VxlanAttributes | None = None


@dataclass(frozen=True)
class Uplink:
    """The interface that carries a node address."""

    device: str
    address: str
    prefixes: tuple[str, ...]
    """Subnets of that family on the interface, in CIDR notation: what is in them needs no router."""


@dataclass(frozen=True)
class Facts:
    uplink4: Uplink | None = None
    uplink6: Uplink | None = None
    mtu: int = NO_MATCH_MTU
    """Smallest MTU of the uplinks and of all interfaces that match mtuIfacePattern."""
    workloads: frozenset[tuple[str, int]] = frozenset()
    """Name and ifindex of all `cali*` devices."""
    ipv6: bool = True
    """Whether new devices of this kernel have IPv6 at all."""


parsed = lru_cache(8192)(ip_interface)
"""Every pod's device carries the same address, and all are looked at whenever a pod starts."""


def observed(
    devices: Mapping[int, Device],
    addresses: Mapping[int, frozenset[str]],
    internal_ips: Iterable[str],
    mtu_pattern: str,
) -> Facts:
    """Facts of a node with these InternalIPs; devices and their addresses (with prefix length) by ifindex."""
    uplinks: dict[int, Uplink] = {}
    own = tuple(internal_ips)
    for index, carried in sorted(addresses.items()):
        device = devices.get(index)
        if device is None:
            continue
        interfaces = [parsed(text) for text in sorted(carried)]
        for interface in interfaces:
            family = interface.version
            if str(interface.ip) in own and family not in uplinks:
                prefixes = tuple(str(i.network) for i in interfaces if i.version == family and not i.is_link_local)
                uplinks[family] = Uplink(device.name, str(interface.ip), prefixes)
    try:
        pattern = re.compile(mtu_pattern)
    except re.error:
        pattern = re.compile("$^")
    names = {uplink.device for uplink in uplinks.values()}
    mtus = [d.mtu for d in devices.values() if d.up and (d.name in names or pattern.match(d.name))]
    return Facts(
        uplink4=uplinks.get(4),
        uplink6=uplinks.get(6),
        mtu=min(mtus, default=NO_MATCH_MTU),
        workloads=frozenset((d.name, d.index) for d in devices.values() if d.name.startswith(WORKLOAD_PREFIX)),
    )
