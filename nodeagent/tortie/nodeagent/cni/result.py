"""What ADD answers, in the version of the specification that was asked for. Pure."""

from __future__ import annotations

from typing import Any

from tortie.api.meta import Record
from tortie.nodeagent.desired import GATEWAY6, HOST_MAC
from tortie.nodeagent.endpoints import EndpointRecord

GATEWAY4 = "169.254.1.1"
"""Every pod's IPv4 gateway: nobody's address, answered by proxy ARP at the host end (Calico)."""
SCOPE_LINK = 253


class Interface(Record):
    name: str
    mac: str = ""
    mtu: int | None = None
    """Since 1.1.0."""
    sandbox: str = ""


class Address(Record):
    """One of `ips`."""

    version: str = ""
    """Until 0.4.0."""
    address: str
    gateway: str = ""
    interface: int | None = None
    """Index into `interfaces`."""


class Route(Record):
    dst: str
    gw: str = ""
    scope: int | None = None
    """Since 1.1.0."""


class Result(Record):
    cni_version: str = ""
    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: dict[str, Any] | None = None


def prefixed(address: str) -> str:
    """As the pod carries it: alone in its subnet."""
    return f"{address}/{128 if ':' in address else 32}"


def result(record: EndpointRecord, version: str, dns: dict[str, Any]) -> Result:
    newest = version == "1.1.0"
    mtu = record.mtu if newest else None
    families = [6 if ":" in address else 4 for address in record.addresses]
    routes = []
    if 4 in families:
        routes.append(Route(dst=prefixed(GATEWAY4), scope=SCOPE_LINK if newest else None))
        routes.append(Route(dst="0.0.0.0/0", gw=GATEWAY4))
    if 6 in families:
        routes.append(Route(dst="::/0", gw=GATEWAY6))
    return Result(
        cni_version=version,
        interfaces=(
            Interface(name=record.host_ifname, mac=HOST_MAC, mtu=mtu),
            Interface(name=record.ifname, mac=record.pod_mac, mtu=mtu, sandbox=record.netns),
        ),
        ips=tuple(
            Address(
                version=str(family) if version == "0.4.0" else "",
                address=prefixed(address),
                gateway=GATEWAY4 if family == 4 else GATEWAY6,
                interface=1,
            )
            for address, family in zip(record.addresses, families, strict=True)
        ),
        routes=tuple(routes),
        dns=dns,
    )
