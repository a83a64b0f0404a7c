"""Flows that are asked about, and who their ends are."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import msgspec

from tortie.api import protocols
from tortie.api.meta import Record
from tortie.api.rules import IntOrString
from tortie.policy.cluster import Address, Cluster, Endpoint
from tortie.policy.match import Packet

EPHEMERAL_PORT = 49152
"""Source port of a flow that names none: one that a client could have."""

ECHO_REQUEST = {protocols.ICMP: 8, protocols.ICMPV6: 128}


class FlowError(ValueError):
    """A flow that means nothing in the cluster. The message names field and value."""

    def __init__(self, field: str, value: object, message: str) -> None:
        super().__init__(f"{field} {value!r}: {message}")


class ICMPMessage(Record):
    type: int
    code: int = 0


class Flow(Record):
    """The first packet of a flow."""

    id: IntOrString = ""
    source: str = msgspec.field(name="from")
    """`pod:NAMESPACE/NAME`, `host:NODE` or `ip:ADDRESS`: whoever has the address, else the outside world."""
    target: str = msgspec.field(name="to")
    protocol: IntOrString = "TCP"
    port: int | None = None
    sport: int | None = None
    icmp: ICMPMessage | None = None
    """None: an echo request."""
    dnat: str = ""
    """`ADDRESS:PORT`: where `to` and `port` are translated to."""
    direction: str = ""
    """ingress or egress: judge one side only."""


@dataclass(frozen=True, eq=False)
class Place:
    """One end of a flow: a workload, the host itself, or the outside world."""

    node: str = ""
    workload: Endpoint | None = None
    addresses: tuple[Address, ...] = ()

    @property
    def is_host(self) -> bool:
        return bool(self.node) and self.workload is None

    @property
    def is_outside(self) -> bool:
        return not self.node and self.workload is None


@dataclass(frozen=True, eq=False)
class Journey:
    """A flow resolved. Without translation `original` is `packet`, and `front` is `target`."""

    source: Place
    target: Place
    front: Place
    """Whoever has the destination before translation."""
    packet: Packet
    original: Packet
    """Before translation of the destination."""


def journey(cluster: Cluster, flow: Flow) -> Journey:
    """Raises FlowError."""
    if flow.direction not in ("", "ingress", "egress"):
        raise FlowError("direction", flow.direction, "must be ingress or egress")
    source, front = place(cluster, "from", flow.source), place(cluster, "to", flow.target)
    source_address, address = _addresses(flow, source, front)
    original = _packet(cluster, flow, source_address, address)
    if not flow.dnat:
        return Journey(source, front, front, original, original)
    translated, port = _translation(flow.dnat)
    if translated.version != address.version:
        raise FlowError("dnat", flow.dnat, f"is not of IP version {address.version}")
    packet = msgspec.structs.replace(flow, port=flow.port if port is None else port)
    target = place(cluster, "dnat", f"ip:{translated}")
    return Journey(source, target, front, _packet(cluster, packet, source_address, translated), original)


def place(cluster: Cluster, field: str, text: str) -> Place:
    kind, _, name = text.partition(":")
    if kind == "pod":
        if name in cluster.workloads:
            endpoint = cluster.workloads[name]
            return Place(endpoint.node, endpoint, endpoint.addresses)
        if name in cluster.host_networked:
            return _host(cluster, cluster.host_networked[name])
        raise FlowError(field, text, "there is no such pod that runs")
    if kind == "host":
        if name not in cluster.nodes and name not in cluster.hosts:
            raise FlowError(field, text, "there is no such node")
        return _host(cluster, name)
    if kind != "ip":
        raise FlowError(field, text, "must be pod:NAMESPACE/NAME, host:NODE or ip:ADDRESS")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise FlowError(field, text, "is no IP address") from None
    return _of_address(cluster, address)


def _host(cluster: Cluster, name: str) -> Place:
    """A host's own addresses come before those that only its host endpoints know."""
    own = cluster.nodes[name].addresses if name in cluster.nodes else ()
    expected = (address for endpoint in cluster.hosts.get(name, ()) for address in endpoint.addresses)
    return Place(name, addresses=tuple(dict.fromkeys((*own, *expected))))


def _of_address(cluster: Cluster, address: Address) -> Place:
    for endpoint in sorted(cluster.workloads.values(), key=lambda e: e.name):
        if address in endpoint.addresses:
            return Place(endpoint.node, endpoint, (address,))
    for name in sorted({*cluster.nodes, *cluster.hosts}):
        if address in _host(cluster, name).addresses:
            return Place(name, addresses=(address,))
    return Place(addresses=(address,))


def _addresses(flow: Flow, source: Place, target: Place) -> tuple[Address, Address]:
    """Of one family, IPv4 if both ends have both."""
    for version in (4, 6):
        ours = [address for address in source.addresses if address.version == version]
        theirs = [address for address in target.addresses if address.version == version]
        if ours and theirs:
            return ours[0], theirs[0]
    for field, text, end in (("from", flow.source, source), ("to", flow.target, target)):
        if not end.addresses:
            raise FlowError(field, text, "has no address")
    raise FlowError("to", flow.target, f"has no address of a family that {flow.source} has")


def _packet(cluster: Cluster, flow: Flow, source_address: Address, destination_address: Address) -> Packet:
    source, destination = cluster.party(source_address), cluster.party(destination_address)
    protocol = protocol_number(flow.protocol)
    if protocol in protocols.WITH_PORTS:
        for field, port in (("port", flow.port), ("sport", flow.sport or EPHEMERAL_PORT)):
            if port is None or not 1 <= port <= 65535:
                raise FlowError(field, port, f"{protocols.protocol_name(protocol)} needs a port from 1 to 65535")
        return Packet(source, destination, protocol, flow.sport or EPHEMERAL_PORT, flow.port)
    if protocol in ECHO_REQUEST:
        message = flow.icmp or ICMPMessage(type=ECHO_REQUEST[protocol])
        return Packet(source, destination, protocol, icmp_type=message.type, icmp_code=message.code)
    return Packet(source, destination, protocol)


def protocol_number(value: IntOrString) -> int:
    """In any case: people write tcp too."""
    names = {name.casefold(): number for name, number in protocols.NUMBERS.items()}
    if isinstance(value, str) and value.casefold() in names:
        return names[value.casefold()]
    try:
        return protocols.protocol_number(value)
    except ValueError as error:
        raise FlowError("protocol", value, str(error)) from None


def _translation(text: str) -> tuple[Address, int | None]:
    """`10.0.0.1:80`, `[fd00::1]:80`, or an address alone."""
    try:
        return ipaddress.ip_address(text), None
    except ValueError:
        pass
    address, _, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        if not (port.isascii() and port.isdecimal()):
            raise ValueError
        return ipaddress.ip_address(address), int(port)
    except ValueError:
        raise FlowError("dnat", text, "must be ADDRESS:PORT") from None
