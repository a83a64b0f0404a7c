"""`tortie why`: may a pod reach something, and which rules say so?"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tortie.api.kubernetes import Pod
from tortie.api.meta import Object
from tortie.api.services import SERVICE_LABEL, EndpointSlice, Service
from tortie.cli import clusters
from tortie.cli.manifests import UsageError
from tortie.policy.cluster import Cluster
from tortie.policy.difference import ports
from tortie.policy.evaluate import Verdict, evaluate
from tortie.policy.explain import lines
from tortie.policy.flows import Flow, FlowError, protocol_number

DESTINATION = re.compile(
    r"(\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^:]+/[^:/]+)|(?P<four>[0-9.]+)|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))"
    r"(:(?P<port>[0-9]+)(/(?P<protocol>\w+))?)?"
)


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers (whose type has no public name)."""
    parser = commands.add_parser("why", help="may a pod reach something, and why", description=__doc__)
    clusters.add_source(parser)
    parser.add_argument("pod", metavar="NAMESPACE/POD")
    parser.add_argument(
        "destination",
        metavar="DST[:PORT[/PROTOCOL]]",
        help="an address, [address] before a port for IPv6, or NAMESPACE/NAME of a pod or a service",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        objects = clusters.objects(options)
        cluster = clusters.built(objects)
        found = [(flow, evaluate(cluster, flow)) for flow in flows(options.pod, options.destination, cluster, objects)]
    except (UsageError, FlowError) as error:
        print(f"tortie why: {error}", file=sys.stderr)
        return 2
    for flow, verdict in _distinct(found):
        print("\n".join(lines(flow, verdict)))
    return 0


def flows(pod: str, destination: str, cluster: Cluster, objects: Sequence[Object]) -> list[Flow]:
    """One; to a service one to each backend, since policy sees these. Raises UsageError."""
    match = DESTINATION.fullmatch(destination)
    if match is None:
        raise UsageError(
            f"destination {destination!r}: is no ADDRESS, [ADDRESS] or NAMESPACE/NAME with or without :PORT"
        )
    port = int(match["port"]) if match["port"] else None
    protocol = match["protocol"] or "TCP"
    source = f"pod:{pod}"
    if not match["name"]:
        address = match["six"] or match["four"] or match["bare"]
        return [Flow(source=source, target=f"ip:{address}", protocol=protocol, port=port)]
    name = match["name"]
    is_pod = name in cluster.workloads or name in cluster.host_networked
    service = next((each for each in objects if isinstance(each, Service) and each.metadata.key == name), None)
    if is_pod and service:
        raise UsageError(f"destination {name!r}: is a pod and a service: name the address of the one that is meant")
    if service:
        slices = [each for each in objects if isinstance(each, EndpointSlice) and _belongs(each, service)]
        return list(_to_service(source, service, slices, port, protocol))
    if port is None:
        protocol, port = _only(f"pod {name}", [(str(p), n) for p, n in ports(_pods(objects)).get(name, ())])
    return [Flow(source=source, target=f"pod:{name}", protocol=protocol, port=port)]


def _pods(objects: Sequence[Object]) -> Iterator[Object]:
    return (each for each in objects if isinstance(each, Pod))


def _only(what: str, found: Sequence[tuple[str, int]]) -> tuple[str, int]:
    if len(found) != 1:
        known = ", ".join(f"{port}/{protocol}" for protocol, port in found) or "none"
        raise UsageError(f"{what}: a port must be given (it names {known})")
    return found[0]


def _belongs(each: EndpointSlice, service: Service) -> bool:
    owner = each.metadata.namespace, each.metadata.labels.get(SERVICE_LABEL)
    return owner == (service.metadata.namespace, service.metadata.name) and each.address_type != "FQDN"


def _to_service(
    source: str, service: Service, slices: Sequence[EndpointSlice], port: int | None, protocol: str
) -> Iterator[Flow]:
    name = service.metadata.key
    if port is None:
        protocol, port = _only(f"service {name}", [(each.protocol, each.port) for each in service.spec.ports])
    number = protocol_number(protocol)
    served = [p for p in service.spec.ports if p.port == port and protocol_number(p.protocol) == number]
    if not served:
        raise UsageError(f"service {name}: has no port {port}/{protocol}")
    backends = {
        (address, target.port)
        for each in slices
        for target in each.ports or ()
        if target.name == served[0].name and target.protocol == served[0].protocol and target.port is not None
        for endpoint in each.endpoints or ()
        for address in endpoint.addresses
    }
    if not backends:
        raise UsageError(f"service {name}: has no endpoint for port {port}/{protocol}")
    for address, number in sorted(backends):
        yield Flow(source=source, target=f"ip:{address}", protocol=protocol, port=number)


def _distinct(found: Sequence[tuple[Flow, Verdict]]) -> Iterator[tuple[Flow, Verdict]]:
    """Backends of a service are mostly judged alike: the first of each verdict with its reasons."""
    seen = set()
    for flow, verdict in found:
        reasons = verdict.verdict, verdict.egress, verdict.ingress
        if reasons not in seen:
            seen.add(reasons)
            yield flow, verdict
