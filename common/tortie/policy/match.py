"""Whether a rule matches a packet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from tortie.api.compiled import ICMP, CompiledRule, Peer, Traffic
from tortie.policy.cluster import Cluster, Party

ANYBODY = (Peer(),)
ANYTHING = (Traffic(),)


@dataclass(frozen=True, eq=False, slots=True)
class Packet:
    """The first of a flow."""

    source: Party
    destination: Party
    protocol: int
    source_port: int | None = None
    port: int | None = None
    """None: the protocol has no ports."""
    icmp_type: int | None = None
    icmp_code: int | None = None


def matches(rule: CompiledRule, packet: Packet, cluster: Cluster) -> bool:
    if rule.void:
        return False
    if rule.ip_version and rule.ip_version != packet.destination.address.version:
        return False
    if rule.not_protocol and rule.not_protocol == packet.protocol:
        return False
    if rule.icmp and not _icmp(rule.icmp, packet):
        return False
    if rule.not_icmp and _icmp(rule.not_icmp, packet):
        return False
    for peer in rule.destinations or ANYBODY:
        if _destination(peer, rule, packet, cluster):
            break
    else:
        return False
    return any(_source(peer, rule, packet, cluster) for peer in rule.sources or ANYBODY)


def _icmp(icmp: ICMP, packet: Packet) -> bool:
    if packet.icmp_type != icmp.type:
        return False
    return icmp.code is None or packet.icmp_code == icmp.code


def _source(peer: Peer, rule: CompiledRule, packet: Packet, cluster: Cluster) -> bool:
    who, port = packet.source, packet.source_port
    if not is_at(peer, who):
        return False
    if peer.service and not any(_has(backends.nets, who) for backends in cluster.services.get(peer.service, ())):
        return False
    if rule.source_ports and not _port(rule.source_ports, port, who, peer, packet):
        return False
    return not _port(rule.not_source_ports, port, who, peer, packet)


def _destination(peer: Peer, rule: CompiledRule, packet: Packet, cluster: Cluster) -> bool:
    who, port = packet.destination, packet.port
    if not any(_traffic(traffic, peer, packet) for traffic in rule.traffic or ANYTHING):
        return False
    if _port(rule.not_ports, port, who, peer, packet):
        return False
    if peer.service:
        served = f"{packet.protocol}:{port}"
        backends = cluster.services.get(peer.service, ())
        if not any(served in each.ports and _has(each.nets, who) for each in backends):
            return False
    return is_at(peer, who)


def is_at(peer: Peer, who: Party) -> bool:
    if peer.selector and not who.matching(peer.selector):
        return False
    if peer.not_selector and who.matching(peer.not_selector):
        return False
    if peer.nets and not _has(peer.nets, who):
        return False
    return not _has(peer.not_nets, who)


def _has(nets: Iterable[str], who: Party) -> bool:
    return any(who.within(net) for net in nets)


def _traffic(traffic: Traffic, peer: Peer, packet: Packet) -> bool:
    if traffic.protocol and traffic.protocol != packet.protocol:
        return False
    return not traffic.ports or _port(traffic.ports, packet.port, packet.destination, peer, packet)


def _port(ports: Iterable[str], port: int | None, who: Party, peer: Peer, packet: Packet) -> bool:
    """Whether a port at an address is among numbers, ranges and named ports. A name is that of a port of an endpoint
    there, which must be one that the peer selects if the peer has a selector."""
    for text in ports:
        span = _span(text)
        if span is not None:
            if port is not None and span[0] <= port <= span[1]:
                return True
            continue
        for owner in who.matching(peer.selector) if peer.selector else who.owners:
            if any((p.name, p.protocol, p.port) == (text, packet.protocol, port) for p in owner.ports):
                return True
    return False


@cache
def _span(text: str) -> tuple[int, int] | None:
    """None: a name."""
    first, _, last = text.partition(":")
    return (int(first), int(last or first)) if first.isdecimal() else None
