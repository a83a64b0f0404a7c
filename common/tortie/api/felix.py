"""FelixConfiguration, and what it comes to for one node."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tortie.api.calico import API_VERSION
from tortie.api.internal import Settings
from tortie.api.meta import Metadata, Object, Record
from tortie.api.selector import SelectorError, parse


class FailsafePort(Record):
    """A port of host endpoints that is open whatever policy says."""

    port: int
    protocol: str = "TCP"
    """In any case; Calico's manifests write tcp."""
    net: str = ""
    """CIDR of the other side; empty: any."""


FAILSAFE_IN = tuple(
    FailsafePort(protocol=protocol, port=port)
    for protocol, port in [("TCP", 22), ("UDP", 68), *(("TCP", p) for p in (179, 2379, 2380, 5473, 6443, 6666, 6667))]
)
FAILSAFE_OUT = tuple(
    FailsafePort(protocol=protocol, port=port)
    for protocol, port in [("UDP", 53), ("UDP", 67), *(("TCP", p) for p in (179, 2379, 2380, 5473, 6443, 6666, 6667))]
)


class FelixConfigurationSpec(Record):
    """The fields that Tortie acts on; None: not set. The CRD has all 188 of Calico's."""

    node_selector: str = ""
    vxlan_vni: int | None = msgspec.field(default=None, name="vxlanVNI")
    vxlan_port: int | None = None
    vxlan_mtu: int | None = msgspec.field(default=None, name="vxlanMTU")
    vxlan_mtu_v6: int | None = msgspec.field(default=None, name="vxlanMTUV6")
    mtu_iface_pattern: str | None = None
    device_route_protocol: int | None = None
    ipv4_normal_route_priority: int | None = None
    ipv6_normal_route_priority: int | None = None
    nat_port_range: int | str | None = None
    nat_outgoing_address: str | None = None
    nat_outgoing_exclusions: str | None = None
    default_endpoint_to_host_action: str | None = None
    ipv6_support: bool | None = None
    log_severity_screen: str | None = None
    failsafe_inbound_host_ports: tuple[FailsafePort, ...] | None = None
    failsafe_outbound_host_ports: tuple[FailsafePort, ...] | None = None
    """None: FAILSAFE_IN and FAILSAFE_OUT; an empty list: none at all."""


class FelixConfiguration(Object):
    """`default` is for all nodes, `node.<name>` for one, any other name for those that its `nodeSelector` selects."""

    api_version: str = API_VERSION
    kind: str = "FelixConfiguration"
    metadata: Metadata
    spec: FelixConfigurationSpec = FelixConfigurationSpec()


FIELDS = msgspec.structs.fields(FelixConfigurationSpec)
"""Found out once: it takes longer than everything else here."""


def resolve(
    configs: Iterable[FelixConfiguration], node_name: str, node_labels: Mapping[str, str]
) -> tuple[Settings, list[str]]:
    """Settings of a node, field by field: `node.<name>` > by `nodeSelector` > `default` > built-in.

    Of several configurations whose selectors match, the oldest counts (by creation, then by name). A value that means
    nothing is passed over, so that the next source counts. What was passed over is in the warnings, each naming
    configuration, field and value.
    """
    sources, warnings = _sources(configs, node_name, node_labels)
    settings: dict[str, Any] = {}
    for info in FIELDS:
        if info.name not in READERS:
            continue
        setting, read = READERS[info.name]
        for config in sources:
            value = getattr(config.spec, info.name)
            if value is None or value == "":
                continue
            try:
                settings[setting] = read(value)
            except ValueError as error:
                warnings.append(f"FelixConfiguration {config.metadata.name}: {info.encode_name} {value!r}: {error}")
            else:
                break
    return Settings(**settings), warnings


def failsafes(
    configs: Iterable[FelixConfiguration], node_name: str, node_labels: Mapping[str, str]
) -> tuple[tuple[FailsafePort, ...], tuple[FailsafePort, ...], list[str]]:
    """Ports inbound and outbound, each from the strongest configuration that lists any, and warnings: a port that
    means nothing is left out."""
    sources, warnings = _sources(configs, node_name, node_labels)
    found = []
    for field, wire, built_in in FAILSAFES:
        config = next((each for each in sources if getattr(each.spec, field) is not None), None)
        ports = []
        for port in built_in if config is None else getattr(config.spec, field):
            try:
                ports.append(_failsafe(port))
            except ValueError as error:
                name, value = config.metadata.name if config else "", msgspec.json.encode(port).decode()
                warnings.append(f"FelixConfiguration {name}: {wire} {value}: {error}")
        found.append(tuple(ports))
    return found[0], found[1], warnings


FAILSAFES = (
    ("failsafe_inbound_host_ports", "failsafeInboundHostPorts", FAILSAFE_IN),
    ("failsafe_outbound_host_ports", "failsafeOutboundHostPorts", FAILSAFE_OUT),
)


def _failsafe(port: FailsafePort) -> FailsafePort:
    protocol = _one_of("TCP", "UDP", "SCTP")(port.protocol or "TCP")
    number = _within(1, 65535)(port.port)
    net = str(ipaddress.ip_network(port.net, strict=False)) if port.net else ""
    return FailsafePort(protocol=protocol, port=number, net=net)


def _sources(
    configs: Iterable[FelixConfiguration], node_name: str, node_labels: Mapping[str, str]
) -> tuple[list[FelixConfiguration], list[str]]:
    """The configurations of a node, the strongest first."""
    default, own = [], []
    matching: list[FelixConfiguration] = []
    warnings: list[str] = []
    for config in sorted(configs, key=lambda c: (c.metadata.creation_timestamp, c.metadata.name)):
        name, selector = config.metadata.name, config.spec.node_selector
        if name == "default":
            default.append(config)
        elif name.startswith("node."):
            if name == f"node.{node_name}":
                own.append(config)
        elif not selector:
            warnings.append(f"FelixConfiguration {name}: without a nodeSelector it applies to no node")
        else:
            try:
                if parse(selector).matches(node_labels):
                    matching.append(config)
            except SelectorError as error:
                warnings.append(f"FelixConfiguration {name}: nodeSelector: {error}")
    warnings.extend(
        f"FelixConfiguration {config.metadata.name}: nodeSelector {config.spec.node_selector!r}: "
        f"{matching[0].metadata.name} is older and selects node {node_name} too, so this one does not apply to it"
        for config in matching[1:]
    )
    return own + matching[:1] + default, warnings


def _within(low: int, high: int) -> Callable[[int], int]:
    def read(value: int) -> int:
        if not low <= value <= high:
            raise ValueError(f"must be within {low}..{high}")
        return value

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    """Without regard to case, as Felix reads them."""

    def read(value: str) -> str:
        for word in words:
            if word.lower() == value.lower():
                return word
        raise ValueError(f"must be one of {', '.join(words)}")

    return read


def _same(value: Any) -> Any:
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return value


def _route_protocol(value: int) -> int:
    """3 is `boot`: anybody's routes. Tortie must know its own, and takes 80."""
    return 80 if value == 3 else _within(1, 255)(value)


def _ports(value: int | str) -> str:
    """`first:last`; 0 leaves the choice to the kernel."""
    first, _, last = str(value).partition(":")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise ValueError("must be a port or first:last")
    low, high = int(first), int(last or first)
    if low == high == 0:
        return ""
    if not 1 <= low <= high <= 65535:
        raise ValueError("must be ports within 1..65535, the first not above the last")
    return f"{low}:{high}"


SEVERITIES: Sequence[str] = ("Trace", "Debug", "Info", "Warning", "Error", "Fatal")

READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "vxlan_vni": ("vxlan_vni", _within(1, 2**24 - 1)),
    "vxlan_port": ("vxlan_port", _within(1, 65535)),
    "vxlan_mtu": ("vxlan_mtu", _within(0, 65535)),
    "vxlan_mtu_v6": ("vxlan_mtu_v6", _within(0, 65535)),
    "mtu_iface_pattern": ("mtu_iface_pattern", _pattern),
    "device_route_protocol": ("device_route_protocol", _route_protocol),
    "ipv4_normal_route_priority": ("ipv4_route_priority", _within(1, 2**31 - 1)),
    "ipv6_normal_route_priority": ("ipv6_route_priority", _within(1, 2**31 - 1)),
    "nat_port_range": ("nat_port_range", _ports),
    "nat_outgoing_address": ("nat_outgoing_address", _same),
    "nat_outgoing_exclusions": ("nat_outgoing_exclusions", _same),
    "default_endpoint_to_host_action": ("default_endpoint_to_host_action", _one_of("Drop", "Accept", "Return")),
    "ipv6_support": ("ipv6_support", _same),
    "log_severity_screen": ("log_severity", _one_of(*SEVERITIES)),
}
"""Field of the spec → field of Settings, and what reads its value (ValueError: why not). What the CRD checks is taken
as it is."""
