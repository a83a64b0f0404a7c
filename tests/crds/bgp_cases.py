"""Cases of the rules of BGP kinds and of the controllers' settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .cases import Case
from .conftest import Json

Peer = partial(Case, "BGPPeer")
Settings = partial(Case, "BGPConfiguration")
DIRECTIONS = ("exportV4", "importV4", "exportV6", "importV6")
SECRET: Json = {"secretKeyRef": {"name": "bgp", "key": "password"}}


def cases() -> Iterator[Case]:
    yield from CASES
    for direction in DIRECTIONS:
        yield from _filter(direction)
    for place in ("spec", "status.runningConfig"):
        yield _controllers(place)


def _filter(direction: str) -> Iterator[Case]:
    net, host, masked = (
        ("10.0.0.0/8", "10.1.0.0/8", "10.0.0.0/8")
        if direction.endswith("V4")
        else ("2001:db8::/32", "fd00::1/8", "fd00::/8")
    )
    match = {"cidr": net, "matchOperator": "In"}
    set_priority = [{"setPriority": {"value": 1}}]
    for rule, good, bad, inner, path, says in [
        (
            "cidr and matchOperator need each other",
            match,
            {"cidr": net},
            "",
            ".matchOperator",
            f"cidr {net} needs a matchOperator",
        ),
        (
            "cidr and matchOperator need each other",
            {},
            {"matchOperator": "In"},
            "",
            ".matchOperator",
            "matchOperator In needs a cidr",
        ),
        (
            "prefixLength needs a cidr",
            match | {"prefixLength": {"min": 8}},
            {"prefixLength": {"min": 8}},
            "",
            ".prefixLength",
            "prefixLength needs a cidr",
        ),
        (
            "operations are for the action Accept",
            {"operations": set_priority},
            {"action": "Reject", "operations": set_priority},
            "",
            ".operations",
            "operations are for the action Accept, not for Reject",
        ),
        (
            "min must not be above max",
            match | {"prefixLength": {"min": 24, "max": 24}},
            match | {"prefixLength": {"min": 25, "max": 24}},
            ".prefixLength",
            ".prefixLength.min",
            "min 25 must not be above max 24",
        ),
        (
            "must be a CIDR without host bits",
            match,
            match | {"cidr": host},
            ".cidr",
            ".cidr",
            f"{host} has host bits, write {masked}",
        ),
    ]:
        yield Case(
            "BGPFilter",
            rule,
            good={direction: [{"action": "Accept"} | good]},
            bad={direction: [{"action": "Accept"} | bad]},
            says=(f"spec.{direction}[0]{path}", says),
            where=f"spec.{direction}[]{inner}",
        )


def _controllers(place: str) -> Case:
    def settings(*cidrs: str) -> Json:
        templates = [{"interfaceCIDRs": list(cidrs)}]
        found = {"controllers": {"node": {"hostEndpoint": {"templates": templates}}}}
        return {"runningConfig": found} if place.startswith("status") else found

    inner = "controllers.node.hostEndpoint.templates"
    return Case(
        "KubeControllersConfiguration",
        "interfaceCIDRs must be addresses or CIDRs",
        good=settings("192.0.2.1", "2001:db8::/32"),
        bad=settings("lan"),
        says=(f"{place}.{inner}[0].interfaceCIDRs[0]", "interfaceCIDRs: lan is neither an address nor a CIDR"),
        where=f"{place}.{inner}[].interfaceCIDRs[]",
        old={"controllers": {}},
    )


CASES = [
    *(
        Peer(
            f"{field} and {other} exclude each other",
            good={other: values[other]} | extra,
            bad={other: values[other], field: values[field]} | extra,
            says=(f"spec.{field}", f"{field} {values[field]} and {other} {values[other]} exclude each other"),
        )
        for values in [
            {
                "node": "a",
                "nodeSelector": "has(a)",
                "peerIP": "192.0.2.1",
                "peerSelector": "has(b)",
                "asNumber": 65001,
                "localWorkloadSelector": "has(c)",
            }
        ]
        for field, other, extra in [
            ("node", "nodeSelector", {}),
            ("peerIP", "peerSelector", {}),
            ("asNumber", "peerSelector", {}),
            ("peerIP", "localWorkloadSelector", {"asNumber": 65001}),
        ]
    ),
    Peer(
        "peerSelector and localWorkloadSelector exclude each other",
        good={"localWorkloadSelector": "has(c)", "asNumber": 65001, "peerSelector": ""},
        bad={"localWorkloadSelector": "has(c)", "asNumber": 65001, "peerSelector": "has(b)"},
        says=("spec.peerSelector", "peerSelector has(b) and localWorkloadSelector has(c) exclude each other"),
        alone=False,
    ),
    Peer(
        "asNumber must be given beside localWorkloadSelector",
        good={"localWorkloadSelector": "has(c)", "asNumber": 65001},
        bad={"localWorkloadSelector": "has(c)", "asNumber": 0},
        says=("spec.asNumber", "asNumber must be given beside localWorkloadSelector"),
    ),
    Peer(
        "reachableBy needs a peerIP",
        good={"reachableBy": "192.0.2.2", "peerIP": "192.0.2.1"},
        bad={"reachableBy": "192.0.2.2"},
        says=("spec.reachableBy", "reachableBy 192.0.2.2 needs a peerIP"),
    ),
    *(
        Peer(
            "reachableBy must be an address of peerIP's IP version",
            good={"reachableBy": good, "peerIP": peer},
            bad={"reachableBy": bad, "peerIP": peer},
            says=("spec.reachableBy", f"reachableBy {bad} must be an address of the IP version of peerIP {peer}"),
        )
        for good, bad, peer in [
            ("192.0.2.2", "2001:db8::2", "192.0.2.1:179"),
            ("2001:db8::2", "192.0.2.2", "[2001:db8::1]:179"),
            ("2001:db8::2", "gateway", "2001:db8::1"),
        ]
    ),
    Peer(
        "keepOriginalNextHop and nextHopMode exclude each other",
        good={"keepOriginalNextHop": False, "nextHopMode": "Keep"},
        bad={"keepOriginalNextHop": True, "nextHopMode": "Keep"},
        says=("spec.keepOriginalNextHop", "keepOriginalNextHop true and nextHopMode Keep exclude each other"),
    ),
    *(
        Peer(
            "peerIP must be an address, with or without a port",
            good={"peerIP": good},
            bad={"peerIP": bad},
            says=("spec.peerIP", f"peerIP {bad} must be an address"),
        )
        for good, bad in [
            ("", "router"),
            ("192.0.2.1", "192.0.2.256"),
            ("192.0.2.1:1", "192.0.2.1:0"),
            ("192.0.2.1:65535", "192.0.2.1:65536"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]:1790", "[192.0.2:1]:1790"),
            ("[::1]:65535", "[::1]:65536"),
            ("::1", "[::1]:0"),
        ]
    ),
    Settings(
        "nodeMeshPassword is not for nodeToNodeMeshEnabled false",
        good={"nodeMeshPassword": SECRET},
        bad={"nodeMeshPassword": SECRET, "nodeToNodeMeshEnabled": False},
        says=("spec.nodeMeshPassword", "nodeMeshPassword is not for nodeToNodeMeshEnabled false"),
    ),
    Settings(
        "nodeMeshMaxRestartTime is not for nodeToNodeMeshEnabled false",
        good={"nodeMeshMaxRestartTime": "2m", "nodeToNodeMeshEnabled": True},
        bad={"nodeMeshMaxRestartTime": "2m", "nodeToNodeMeshEnabled": False},
        says=("spec.nodeMeshMaxRestartTime", "nodeMeshMaxRestartTime 2m is not for nodeToNodeMeshEnabled false"),
    ),
    Settings(
        "communities need prefixAdvertisements that use them",
        good={"communities": [{"name": "a", "value": "1:2"}], "prefixAdvertisements": [{"communities": ["a"]}]},
        bad={"communities": [{"name": "a", "value": "1:2"}]},
        says=("spec.communities", "communities need prefixAdvertisements that use them"),
    ),
    *(
        Settings(
            f"localWorkloadPeeringIPV{version} must be an IPv{version} address",
            good={f"localWorkloadPeeringIPV{version}": good},
            bad={f"localWorkloadPeeringIPV{version}": bad},
            says=(
                f"spec.localWorkloadPeeringIPV{version}",
                f"localWorkloadPeeringIPV{version} {bad} must be an IPv{version} address",
            ),
        )
        for version, good, bad in [(4, "192.0.2.1", "fe80::1"), (6, "fe80::1", "192.0.2.1"), (6, "", "fe80::x")]
    ),
    *(
        Settings(
            "must be a CIDR without host bits",
            good={field: [{"cidr": "192.0.2.0/24"}, {"cidr": "2001:db8::/32"}]},
            bad={field: [{"cidr": "192.0.2.1/24"}]},
            says=(f"spec.{field}[0].cidr", "192.0.2.1/24 has host bits, write 192.0.2.0/24"),
            where=f"spec.{field}[].cidr",
        )
        for field in ("serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs", "prefixAdvertisements")
    ),
]
