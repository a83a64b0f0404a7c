"""Whether a rule matches a packet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tortie.api.compiled import ICMP, CompiledRule, Peer, Traffic
from tortie.policy.cluster import Address, Cluster, network

ANYBODY = Peer()
ANYTHING = Traffic()


@dataclass(frozen=True, slots=True)
class Packet:
    """The first of a flow."""

    source: Address
    destination: Address
    protocol: int
    source_port: int | None = None
    port: int | None = None
    """None: the protocol has no ports."""
    icmp_type: int | None = None
    icmp_code: int | None = None


def matches(rule: CompiledRule, packet: Packet, cluster: Cluster) -> bool:
    if rule.void:
        return False
    if rule.ip_version and rule.ip_version != packet.destination.version:
        return False
    if rule.not_protocol and rule.not_protocol == packet.protocol:
        return False
    if rule.icmp and not _icmp(rule.icmp, packet):
        return False
    if rule.not_icmp and _icmp(rule.not_icmp, packet):
        return False
    if not any(_source(peer, rule, packet, cluster) for peer in rule.sources or (ANYBODY,)):
        return False
    return any(_destination(peer, rule, packet, cluster) for peer in rule.destinations or (ANYBODY,))


def _icmp(icmp: ICMP, packet: Packet) -> bool:
    if packet.icmp_type != icmp.type:
        return False
    return icmp.code is None or packet.icmp_code == icmp.code


def _source(peer: Peer, rule: CompiledRule, packet: Packet, cluster: Cluster) -> bool:
    if not _is_at(peer, packet.source, cluster):
        return False
    if peer.service and not any(_has(b.nets, packet.source) for b in cluster.services.get(peer.service, ())):
        return False
    port = packet.source_port
    if rule.source_ports and not _port(rule.source_ports, port, packet.source, peer, packet, cluster):
        return False
    return not _port(rule.not_source_ports, port, packet.source, peer, packet, cluster)


def _destination(peer: Peer, rule: CompiledRule, packet: Packet, cluster: Cluster) -> bool:
    if not _is_at(peer, packet.destination, cluster):
        return False
    if peer.service:
        served = f"{packet.protocol}:{packet.port}"
        backends = cluster.services.get(peer.service, ())
        if not any(served in b.ports and _has(b.nets, packet.destination) for b in backends):
            return False
    if _port(rule.not_ports, packet.port, packet.destination, peer, packet, cluster):
        return False
    return any(_traffic(traffic, peer, packet, cluster) for traffic in rule.traffic or (ANYTHING,))


def _is_at(peer: Peer, address: Address, cluster: Cluster) -> bool:
    if peer.selector and not cluster.matching(address, peer.selector):
        return False
    if peer.not_selector and cluster.matching(address, peer.not_selector):
        return False
    if peer.nets and not _has(peer.nets, address):
        return False
    return not _has(peer.not_nets, address)


def _has(nets: Iterable[str], address: Address) -> bool:
    return any(address in network(net) for net in nets)


def _traffic(traffic: Traffic, peer: Peer, packet: Packet, cluster: Cluster) -> bool:
    if traffic.protocol and traffic.protocol != packet.protocol:
        return False
    if not traffic.ports:
        return True
    return _port(traffic.ports, packet.port, packet.destination, peer, packet, cluster)


def _port(
    ports: Iterable[str], port: int | None, address: Address, peer: Peer, packet: Packet, cluster: Cluster
) -> bool:
    """Whether a port at an address is among numbers, ranges and named ports. A name is that of a port of an endpoint
    there, which must be one that the peer selects if the peer has a selector."""
    for text in ports:
        first, _, last = text.partition(":")
        if first.isdecimal():
            if port is not None and int(first) <= port <= int(last or first):
                return True
            continue
        owners = cluster.matching(address, peer.selector) if peer.selector else cluster.owners(address)
        for owner in owners:
            if any((p.name, p.protocol, p.port) == (text, packet.protocol, port) for p in owner.ports):
                return True
    return False
