"""Packets of the universe of tests/property/policy as frames, and what the reference evaluator says of them."""

from __future__ import annotations

import ipaddress

from tortie.policy.cluster import WORKLOAD, Cluster, Endpoint
from tortie.policy.judge import Step, by_policies, by_profiles
from tortie.policy.match import Packet

from ..property.policy.universe import PACKETS, Kind
from .frames import ipv4, ipv6, transport


def frame(source: str, destination: str, kind: Kind) -> bytes:
    payload = transport(kind.protocol, kind.sport or 0, kind.dport or 0, kind.type or 0, kind.code or 0)
    made = ipv6 if ":" in source else ipv4
    return made(source, destination, kind.protocol, payload)


def expected(cluster: Cluster, endpoint: Endpoint, direction: str, index: int) -> Step:
    """The step that decides."""
    source, destination, kind = PACKETS[index]
    packet = Packet(
        cluster.party(ipaddress.ip_address(source)),
        cluster.party(ipaddress.ip_address(destination)),
        kind.protocol,
        kind.sport,
        kind.dport,
        kind.type,
        kind.code,
    )
    trace: list[Step] = []
    if by_policies(cluster, endpoint, direction, WORKLOAD, packet, trace) is None:
        by_profiles(cluster, endpoint, direction, packet, trace)
    return trace[-1]
