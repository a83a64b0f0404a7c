"""Protocols, nets, ICMP types and ports of a rule: read, checked against each other, and brought into their order."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tortie.api import protocols
from tortie.api.compiled import ICMP
from tortie.api.protocols import Span
from tortie.api.rules import ICMPFields, IntOrString, Rule
from tortie.policy.convert.problems import Findings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def protocol_of(value: IntOrString | None, field: str, findings: Findings) -> int:
    if value is None:
        return 0
    try:
        return protocols.protocol_number(value)
    except ValueError as error:
        findings.error(field, value, str(error))
        return 0


FAMILY = {protocols.ICMP: 4, protocols.ICMPV6: 6}


def check_version(user: Rule, protocol: int, not_protocol: int, here: str, findings: Findings) -> None:
    version = user.ip_version
    if version not in (None, 4, 6):
        findings.error(f"{here}.ipVersion", version, "must be 4 or 6")
    for name, number in (("protocol", protocol), ("notProtocol", not_protocol)):
        if version and FAMILY.get(number, version) != version:
            findings.error(f"{here}.{name}", protocols.protocol_name(number), f"is not of IP version {version}")


def all_nets(user: Rule, here: str, findings: Findings) -> dict[str, tuple[str, ...]]:
    """By field, sorted: all of one IP version."""
    found: dict[str, tuple[str, ...]] = {}
    versions = set()
    for end, entity in (("source", user.source), ("destination", user.destination)):
        for name, texts in (("nets", entity.nets), ("notNets", entity.not_nets)):
            networks = set()
            for index, text in enumerate(texts):
                field = f"{here}.{end}.{name}[{index}]"
                network = net(text, field, findings)
                if network is None:
                    continue
                networks.add(network)
                versions.add(network.version)
                if user.ip_version and network.version != user.ip_version:
                    findings.error(field, text, f"is not of IP version {user.ip_version}")
                if name == "notNets" and network.prefixlen == 0:
                    findings.error(field, text, "excludes every address")
            found[f"{end}.{name}"] = in_order(networks)
    if len(versions) > 1:
        findings.error(here, "IPv4 and IPv6", "the nets of a rule must be of one IP version")
    return found


def in_order(networks: Iterable[Network]) -> tuple[str, ...]:
    return tuple(map(str, sorted(set(networks), key=lambda n: (n.version, int(n.network_address), n.prefixlen))))


def net(text: str, field: str, findings: Findings) -> Network | None:
    """A CIDR without host bits."""
    network = masked(text, field, findings)
    if network is None:
        return None
    if "/" not in text:
        findings.error(field, text, f"is no CIDR, write {network}")
        return None
    if ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        findings.error(field, text, f"has host bits, write {network}")
        return None
    return network


def masked(text: str, field: str, findings: Findings) -> Network | None:
    """A CIDR, which may have host bits, or an address."""
    address, slash, length = text.partition("/")
    try:
        # netmasks and scopes, which ipaddress reads too, are none of ours
        if "%" in address or (slash and not (length.isascii() and length.isdecimal())):
            raise ValueError
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        findings.error(field, text, "is no CIDR")
        return None


def icmp_of(fields: ICMPFields | None, field: str, findings: Findings) -> ICMP | None:
    if fields is None or (fields.type is None and fields.code is None):
        return None
    if fields.type is None:
        findings.error(f"{field}.code", fields.code, "needs a type")
        return None
    if not 0 <= fields.type <= 254:
        findings.error(f"{field}.type", fields.type, "must be within 0..254")
    if fields.code is not None and not 0 <= fields.code <= 255:
        findings.error(f"{field}.code", fields.code, "must be within 0..255")
    return ICMP(type=fields.type, code=fields.code)


def all_ports(user: Rule, protocol: int, here: str, findings: Findings) -> dict[str, tuple[str, ...]]:
    found = {}
    for end, entity in (("source", user.source), ("destination", user.destination)):
        for name, values in (("ports", entity.ports), ("notPorts", entity.not_ports)):
            field = f"{here}.{end}.{name}"
            if values and user.protocol is not None and protocol not in protocols.WITH_PORTS:
                findings.error(field, user.protocol, "ports need protocol TCP, UDP or SCTP")
            found[f"{end}.{name}"] = protocols.canonical_ports(_ports(values, user.protocol, field, findings))
    return found


def _ports(
    values: Iterable[IntOrString], protocol: IntOrString | None, field: str, findings: Findings
) -> Iterable[Span | str]:
    for index, value in enumerate(values):
        try:
            port = protocols.port(value)
        except ValueError as error:
            findings.error(f"{field}[{index}]", value, str(error))
            continue
        if protocol is None and not isinstance(port, str):
            findings.error(f"{field}[{index}]", value, "a port number needs protocol TCP, UDP or SCTP")
        yield port
