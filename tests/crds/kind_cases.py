"""Cases of the rules that belong to one kind, or to the spec of a policy."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .cases import Case
from .conftest import Json
from .policy_cases import KINDS, SERVICES

GLOBAL = KINDS[2:]
STAGED = (KINDS[1], KINDS[3])

Peer = partial(Case, "BGPPeer")
Tier = partial(Case, "Tier")
LONG = "a" * 64


def cases() -> Iterator[Case]:
    yield from CASES
    for kind in KINDS:
        yield from _policy(kind)
    for kind in GLOBAL:
        yield from _global(kind)
    for kind in STAGED:
        for field, value in DELETED.items():
            yield Case(
                kind,
                "stagedAction Delete excludes all else but tier",
                good={"stagedAction": "Delete", "tier": "security"},
                bad={"stagedAction": "Delete", field: value},
                says=("spec.stagedAction", "stagedAction Delete excludes all else but tier"),
            )


def _policy(kind: str) -> Iterator[Case]:
    yield Case(
        kind,
        "metadata.name must have at most one dot",
        good={},
        bad={},
        good_name="security.web",
        bad_name="a.b.web",
        says=("metadata.name a.b.web must have at most one dot",),
    )
    fields = ["selector", "serviceAccountSelector", *(["namespaceSelector"] if kind in GLOBAL else [])]
    for field in fields:
        yield Case(
            kind,
            f"{field} must not use global(), which is for the namespaceSelector of rules",
            good={field: "all()"},
            bad={field: "has(a) || global()"},
            says=(f"spec.{field}", f"{field} has(a) || global() must not use global()"),
        )
    yield Case(
        kind,
        "services is for the source of an ingress rule",
        good={"ingress": [{"action": "Allow", "source": SERVICES}]},
        bad={"ingress": [{"action": "Allow", "destination": SERVICES}]},
        says=("spec.ingress[0].destination.services", "services web is for the source of an ingress rule"),
    )
    yield Case(
        kind,
        "services is for the destination of an egress rule",
        good={"egress": [{"action": "Allow", "destination": SERVICES}]},
        bad={"egress": [{"action": "Allow", "source": SERVICES}]},
        says=("spec.egress[0].source.services", "services web is for the destination of an egress rule"),
    )
    yield Case(
        kind,
        "http is for ingress rules",
        good={"ingress": [{"action": "Allow", "http": {}}]},
        bad={"egress": [{"action": "Allow", "http": {}}]},
        says=("spec.egress[0].http", "http is for ingress rules"),
    )


def _global(kind: str) -> Iterator[Case]:
    forward: Json = {"applyOnForward": True}
    yield Case(
        kind,
        "doNotTrack true and preDNAT true exclude each other",
        good=forward | {"preDNAT": True, "doNotTrack": False},
        bad=forward | {"preDNAT": True, "doNotTrack": True},
        says=("spec.doNotTrack", "doNotTrack true and preDNAT true exclude each other"),
    )
    yield Case(
        kind,
        "egress must be empty beside preDNAT true",
        good=forward | {"preDNAT": True, "egress": []},
        bad=forward | {"preDNAT": True, "egress": [{"action": "Log"}, {"action": "Deny"}]},
        says=("spec.egress", "egress must be empty beside preDNAT true, it has 2 rules"),
    )
    yield Case(
        kind,
        "types must not have Egress beside preDNAT true",
        good=forward | {"preDNAT": True, "types": ["Ingress"]},
        bad=forward | {"preDNAT": True, "types": ["Ingress", "Egress"]},
        says=("spec.types", "types must not have Egress beside preDNAT true"),
    )
    for field in ("preDNAT", "doNotTrack"):
        yield Case(
            kind,
            "applyOnForward must be true beside preDNAT true and doNotTrack true",
            good={field: False, "applyOnForward": False},
            bad={field: True},
            says=("spec.applyOnForward", f"applyOnForward must be true beside {field} true"),
        )
    for direction, side in (("ingress", "source"), ("egress", "destination")):
        yield Case(
            kind,
            "services of a global policy must have a namespace",
            good={direction: [{"action": "Allow", side: SERVICES}]},
            bad={direction: [{"action": "Allow", side: {"services": {"name": "web", "namespace": ""}}}]},
            says=(
                f"spec.{direction}[0].{side}.services.namespace",
                "services web of a global policy must have a names",
            ),
            where=f"spec.{direction}[]",
        )


def _cluster(direction: str, ports: Json, protocol: str) -> Json:
    peers = "from" if direction == "ingress" else "to"
    protocols = [{protocol: {"destinationPort": {"range": ports}}}]
    return CLUSTER | {direction: [{"action": "Deny", peers: [{"namespaces": {}}], "protocols": protocols}]}


def _networks(*networks: str) -> Json:
    return CLUSTER | {"egress": [{"action": "Deny", "to": [{"networks": list(networks)}]}]}


CLUSTER: Json = {"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}}

DELETED: Json = {
    "ingress": [{"action": "Log"}],
    "egress": [{"action": "Log"}],
    "types": ["Ingress"],
    "performanceHints": ["AssumeNeededOnEveryNode"],
    "order": 0,
    "selector": "all()",
    "serviceAccountSelector": "all()",
}

CASES = [
    *(
        Case(
            "StagedGlobalNetworkPolicy",
            "stagedAction Delete excludes namespaceSelector, applyOnForward, preDNAT and doNotTrack",
            good={"stagedAction": "Delete", "applyOnForward": False, "namespaceSelector": ""},
            bad={"stagedAction": "Delete"} | bad,
            says=("spec.stagedAction", "stagedAction Delete excludes namespaceSelector, applyOnForward"),
        )
        for bad in [
            {"namespaceSelector": "all()"},
            {"applyOnForward": True},
            {"applyOnForward": True, "preDNAT": True},
            {"applyOnForward": True, "doNotTrack": True},
        ]
    ),
    *(
        Case(
            "StagedKubernetesNetworkPolicy",
            "stagedAction Delete excludes all else",
            good={"stagedAction": "Delete", "podSelector": {}},
            bad={"stagedAction": "Delete"} | bad,
            says=("spec.stagedAction", "stagedAction Delete excludes all else"),
        )
        for bad in [
            {"ingress": [{}]},
            {"egress": [{}]},
            {"policyTypes": ["Ingress"]},
            {"podSelector": {"matchLabels": {"a": "b"}}},
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
        ]
    ),
    *(
        Case(
            "StagedKubernetesNetworkPolicy",
            "endPort needs a port that is a number, and not above it",
            good={direction: [{"ports": [{"port": 80, "endPort": 80}]}]},
            bad={direction: [{"ports": [{"endPort": 80} | port]}]},
            says=(f"spec.{direction}[0].ports[0].endPort", f"endPort 80 needs a port that is a number{says}"),
            where=f"spec.{direction}[].ports[]",
        )
        for direction in ("ingress", "egress")
        for port, says in [
            ({}, ", and not above it"),
            ({"port": "http"}, ", and not above it: http"),
            ({"port": 81}, ", and not above it: 81"),
        ]
    ),
    *(
        Case(
            "ClusterNetworkPolicy",
            "end must be above start",
            good=_cluster(direction, {"start": 80, "end": 81}, protocol),
            bad=_cluster(direction, {"start": 80, "end": 80}, protocol),
            says=(
                f"spec.{direction}[0].protocols[0].{protocol}.destinationPort.range.end",
                "end 80 must be above start 80",
            ),
            where=f"spec.{direction}[].protocols[].{protocol}.destinationPort.range",
        )
        for direction in ("ingress", "egress")
        for protocol in ("tcp", "udp", "sctp")
    ),
    Case(
        "ClusterNetworkPolicy",
        "networks must be CIDRs",
        good=_networks("10.0.0.1/8", "::/0"),
        bad=_networks("10.0.0.0/8", "10.0.0.1"),
        says=("spec.egress[0].to[0].networks[1]", "networks: 10.0.0.1 is not a CIDR"),
    ),
    Tier(
        "metadata.name must be a DNS label",
        good={},
        bad={},
        good_name="a" * 63,
        bad_name=LONG,
        says=(f"metadata.name {LONG} must be a DNS label",),
    ),
    Tier(
        "metadata.name must be a DNS label",
        good={},
        bad={},
        bad_name="a.b",
        good_name="a-b",
        says=("metadata.name a.b",),
    ),
    *(
        Tier(
            f"{field} of the tier {name} must be {value}",
            good={"order": order, "defaultAction": action},
            bad=bad,
            good_name=name,
            bad_name=name,
            says=(f"spec.{field}", f"{field} {shown} of the tier {name} must be {value}"),
        )
        for name, order, action, other in [
            ("kube-admin", 1000, "Pass", "Deny"),
            ("default", 1000000, "Deny", "Pass"),
            ("kube-baseline", 10000000, "Pass", "Deny"),
        ]
        for field, value, bad, shown in [
            ("defaultAction", action, {"order": order, "defaultAction": other}, other),
            ("order", order, {"order": 7.5, "defaultAction": action}, "7.5"),
            ("order", order, {"defaultAction": action}, ""),
        ]
    ),
    Case(
        "GlobalNetworkSet",
        "nets must be addresses or CIDRs",
        good={"nets": ["192.0.2.1/24", "2001:DB8::1"]},
        bad={"nets": ["192.0.2.1", "example.org"]},
        says=("spec.nets[1]", "nets: example.org is neither an address nor a CIDR"),
    ),
    Case(
        "NetworkSet",
        "nets must be addresses or CIDRs",
        good={"nets": ["192.0.2.1/24", "2001:DB8::1"]},
        bad={"nets": ["192.0.2.1/33"]},
        says=("spec.nets[0]", "nets: 192.0.2.1/33 is neither an address nor a CIDR"),
    ),
    Case(
        "HostEndpoint",
        "node must be given",
        good={"node": "a", "interfaceName": "*"},
        bad={"node": "", "interfaceName": "*"},
        says=("spec.node", "node must be given"),
    ),
    Case(
        "HostEndpoint",
        "interfaceName or expectedIPs must be given",
        good={"node": "a", "expectedIPs": ["192.0.2.1"]},
        bad={"node": "a", "interfaceName": "", "expectedIPs": []},
        says=("spec.interfaceName", "interfaceName or expectedIPs must be given"),
    ),
    Case(
        "HostEndpoint",
        "expectedIPs must be addresses",
        good={"node": "a", "expectedIPs": ["192.0.2.1", "2001:db8::1"]},
        bad={"node": "a", "expectedIPs": ["192.0.2.1", "192.0.2.0/24"]},
        says=("spec.expectedIPs[1]", "expectedIPs: 192.0.2.0/24 is not an address"),
    ),
]
