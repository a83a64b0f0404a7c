"""Whole flows, between pods, hosts and the outside world, with host endpoints in their way, against the table of
journeys."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tortie.policy.build import build, records
from tortie.policy.evaluate import Side, evaluate
from tortie.policy.flows import Flow, ICMPMessage

from .journeys import FLOW_KINDS, End, Judge, addresses, ends
from .objects import Json
from .oracle import World
from .policies import host_clusters
from .test_evaluator import SLOW
from .universe import Kind, family


def flow(source: End, target: End, kind: Kind, dnat: str = "") -> Flow:
    message = None if kind.type is None else ICMPMessage(type=kind.type, code=kind.code or 0)
    return Flow(
        source=source.reference,
        target=target.reference,
        protocol=kind.protocol,
        port=kind.dport,
        sport=kind.sport,
        icmp=message,
        dnat=dnat,
    )


def allows(side: Side | None) -> bool:
    assert side is not None
    if side.trace:
        assert side.trace[-1].action == {"allow": "Allow", "deny": "Deny"}[side.verdict] or side.verdict == "allow"
    else:
        assert side.verdict == "allow", "a Deny without a reason"
    return side.verdict == "allow"


@given(host_clusters(), st.integers(0, 4))
@settings(SLOW, max_examples=100)
def test_flows_are_judged_at_every_endpoint_in_their_way(documents: list[Json], start: int) -> None:
    cluster, _ = build(records(documents))
    world = World(documents)
    judge = Judge(world)
    places = ends(world)
    pairs = [(a, b) for a in places for b in places if addresses(a, b)]
    for index, (source, target) in enumerate(pairs):
        kind = FLOW_KINDS[(start + index) % len(FLOW_KINDS)]
        verdict = evaluate(cluster, flow(source, target, kind))
        expected = judge.verdicts(source, target, kind)
        assert (allows(verdict.egress), allows(verdict.ingress)) == expected, (source, target, kind, verdict)
        assert verdict.verdict == ("allow" if all(expected) else "deny")


@given(host_clusters(), st.sampled_from([(80, 8080), (8080, 80), (443, 443)]))
@settings(SLOW, max_examples=60)
def test_translated_flows_are_judged_before_and_after(documents: list[Json], ports: tuple[int, int]) -> None:
    cluster, _ = build(records(documents))
    world = World(documents)
    judge = Judge(world)
    places = ends(world)
    before, after = (next(k for k in FLOW_KINDS if k.protocol == 6 and k.dport == port) for port in ports)
    # of several that have an address, the first by name
    by_name = sorted((end for end in places if end.kind == "pod"), key=lambda end: end.reference, reverse=True)
    pods = {address: end for end in by_name for address in end.addresses}
    for source in places:
        for front in (end for end in places if end.kind == "host"):
            for address, target in sorted(pods.items()):
                pair = addresses(source, front)
                if source.kind == "host" or pair is None or family(pair[0]) != family(address):
                    continue
                dnat = f"[{address}]:{ports[1]}" if ":" in address else f"{address}:{ports[1]}"
                verdict = evaluate(cluster, flow(source, front, before, dnat))
                narrow = End("pod", target.reference, [address], target.node, target.pod)
                behind = source if target is source else narrow
                expected = judge.translated(source, front, behind, before, after)
                assert (allows(verdict.egress), allows(verdict.ingress)) == expected, (source, front, target, verdict)
