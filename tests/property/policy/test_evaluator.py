"""The reference evaluator against the oracle: every packet of a small universe, on random clusters."""

from __future__ import annotations

import ipaddress

from hypothesis import HealthCheck, given, note, settings

from tortie.policy.build import build, records
from tortie.policy.cluster import Cluster, Endpoint
from tortie.policy.judge import Step, by_policies, by_profiles
from tortie.policy.match import Packet

from .objects import Json
from .oracle import World
from .policies import clusters, host_clusters
from .universe import FROM, PACKETS, TO

SLOW = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def packet_of(cluster: Cluster, index: int) -> Packet:
    source, destination, kind = PACKETS[index]
    return Packet(
        cluster.party(ipaddress.ip_address(source)),
        cluster.party(ipaddress.ip_address(destination)),
        kind.protocol,
        kind.sport,
        kind.dport,
        kind.type,
        kind.code,
    )


def bits(mask: int) -> list[int]:
    return [index for index in range(len(PACKETS)) if mask >> index & 1]


def agree(world: World, cluster: Cluster, endpoint: Endpoint, direction: str, hook: str, packets: list[int]) -> None:
    thing = next(t for t in world.things if t.name == endpoint.name and t.kind in ("Pod", "HostEndpoint"))
    allowed, denied = world.decided(thing, direction, hook)
    profiles = world.by_profiles(thing, direction)
    for index in packets:
        packet, trace, bit = packet_of(cluster, index), list[Step](), 1 << index
        expected = "Allow" if allowed & bit else "Deny" if denied & bit else None
        found = by_policies(cluster, endpoint, direction, hook, packet, trace)
        if found != expected:
            note(f"{endpoint.name} {direction} {hook} {PACKETS[index]}: {found}, not {expected}; {trace}")
        assert found == expected
        assert found is None or trace[-1].action == found
        if hook in ("workload", "normal"):
            assert by_profiles(cluster, endpoint, direction, packet, trace) == ("Allow" if profiles & bit else "Deny")


@given(clusters())
@settings(SLOW, max_examples=250)
def test_workloads_are_judged_as_the_text_says(documents: list[Json]) -> None:
    cluster, _ = build(records(documents))
    world = World(documents)
    for endpoint in cluster.endpoints:
        addresses = [str(address) for address in endpoint.addresses]
        for address in addresses:
            agree(world, cluster, endpoint, "Ingress", "workload", bits(TO[address]))
            agree(world, cluster, endpoint, "Egress", "workload", bits(FROM[address]))


@given(host_clusters())
@settings(SLOW, max_examples=150)
def test_host_endpoints_are_judged_as_the_text_says(documents: list[Json]) -> None:
    cluster, _ = build(records(documents))
    world = World(documents)
    for number, endpoint in enumerate(cluster.endpoints):
        if endpoint.is_host:
            some = list(range(number, len(PACKETS), 17))
            for hook in ("normal", "forward", "preDNAT", "untracked"):
                for direction in ("Ingress", "Egress"):
                    agree(world, cluster, endpoint, direction, hook, some)
