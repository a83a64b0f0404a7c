"""Network sets, and the backends of services that rules name → CompiledNetworkSet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tortie.api import protocols
from tortie.api.compiled import Backends, CompiledNetworkSetSpec, Source
from tortie.api.services import EndpointSlice
from tortie.api.sets import GlobalNetworkSet, NetworkSet
from tortie.policy.convert.fields import in_order, masked
from tortie.policy.convert.identity import source_of
from tortie.policy.convert.problems import Findings, Problem
from tortie.policy.labels import NAMESPACE


def network_set(user: NetworkSet | GlobalNetworkSet) -> tuple[CompiledNetworkSetSpec, tuple[Problem, ...]]:
    """Whole, not in chunks. A net that cannot be read is left out."""
    findings = Findings()
    labels = dict(sorted(user.metadata.labels.items()))
    if NAMESPACE in labels:
        findings.error("metadata.labels", f"{NAMESPACE}={labels.pop(NAMESPACE)}", "is not for network sets")
    read = [masked(text, f"spec.nets[{index}]", findings) for index, text in enumerate(user.spec.nets)]
    spec = CompiledNetworkSetSpec(
        source=source_of("ns" if isinstance(user, NetworkSet) else "gns", user.metadata),
        labels=labels,
        nets=in_order(network for network in read if network is not None),
    )
    return spec, tuple(findings.errors)


def service_set(namespace: str, name: str, slices: Iterable[EndpointSlice]) -> CompiledNetworkSetSpec:
    """Backends of a service from its slices, ready or not (as in Calico), whole, not in chunks.

    A slice port without number, which would mean every port, gives its addresses no port: rules that name the service
    as a destination do not match there.
    """
    ports: dict[str, set[str]] = {}
    for each in slices:
        if each.address_type not in ("IPv4", "IPv6"):
            continue
        served = {
            f"{protocols.NUMBERS[port.protocol]}:{port.port}"
            for port in each.ports or ()
            if port.protocol in protocols.NUMBERS and port.port is not None
        }
        for endpoint in each.endpoints or ():
            for address in endpoint.addresses:
                ports.setdefault(str(ipaddress.ip_network(address)), set()).update(served)
    groups: dict[tuple[str, ...], list[str]] = {}
    for net, served in ports.items():
        groups.setdefault(tuple(sorted(served, key=_port_order)), []).append(net)
    backends = (
        Backends(ports=served, nets=in_order(map(ipaddress.ip_network, nets))) for served, nets in groups.items()
    )
    return CompiledNetworkSetSpec(
        source=Source(kind="svc", namespace=namespace, name=name),
        backends=tuple(sorted(backends, key=lambda b: (tuple(map(_port_order, b.ports)), b.nets))),
    )


def _port_order(text: str) -> tuple[int, int]:
    protocol, _, port = text.partition(":")
    return int(protocol), int(port)
