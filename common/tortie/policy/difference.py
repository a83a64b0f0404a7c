"""What a change of policy changes: the flows between pods, on the pods' own ports, that are judged otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from tortie.api.endpoints import WorkloadEndpoint
from tortie.api.kubernetes import Pod
from tortie.api.meta import Object, Record
from tortie.policy.cluster import WORKLOAD, Cluster, Endpoint
from tortie.policy.evaluate import EGRESS, INGRESS, Verdict, evaluate
from tortie.policy.flows import Flow, FlowError

Port = tuple[int | str, int]
"""Protocol and number."""


class Change(Record, omit_defaults=False):
    flow: Flow
    before: Verdict
    after: Verdict


def ports(objects: Iterable[Object]) -> dict[str, tuple[Port, ...]]:
    """Workload → the ports that its containers, or its WorkloadEndpoint, name."""
    found: dict[str, tuple[Port, ...]] = {}
    for each in objects:
        if isinstance(each, Pod):
            containers = (
                *each.spec.containers,
                *(c for c in each.spec.init_containers if c.restart_policy == "Always"),
            )
            found[each.metadata.key] = tuple((p.protocol, p.container_port) for c in containers for p in c.ports)
        elif isinstance(each, WorkloadEndpoint):
            name = each.spec.pod or each.spec.workload or each.metadata.name
            found[f"{each.metadata.namespace}/{name}"] = tuple((p.protocol, p.port) for p in each.spec.ports)
    return found


def changes(before: Cluster, after: Cluster, served: dict[str, tuple[Port, ...]]) -> Iterator[Change]:
    """Of pods that there are before and after, by name."""
    both = sorted(before.workloads.keys() & after.workloads.keys())
    alike = _same_but_for_policies(before, after)
    sends = {name: not alike or _governed(before, after, name, EGRESS) for name in both}
    receives = {name: not alike or _governed(before, after, name, INGRESS) for name in both}
    for source, target in product(both, both):
        if source == target or not (sends[source] or receives[target]):
            continue
        for protocol, port in dict.fromkeys(served.get(target, ())):
            flow = Flow(source=f"pod:{source}", target=f"pod:{target}", protocol=protocol, port=port)
            try:
                old, new = evaluate(before, flow), evaluate(after, flow)
            except FlowError:  # a pod that has no address yet
                continue
            if old.verdict != new.verdict:
                yield Change(flow=flow, before=old, after=new)


def _governed(before: Cluster, after: Cluster, name: str, direction: str) -> bool:
    """Whether other policies govern a pod than before, or host endpoints are in its way."""
    old, new = before.workloads[name], after.workloads[name]
    if before.hosts or after.hosts:
        return True
    return before.applicable(old, direction, WORKLOAD) != after.applicable(new, direction, WORKLOAD)


def _same_but_for_policies(before: Cluster, after: Cluster) -> bool:
    if (before.services, before.tiers, before.profiles) != (after.services, after.tiers, after.profiles):
        return False
    if before.configurations != after.configurations or before.nodes != after.nodes:
        return False
    if [(s.name, s.labels, s.nets) for s in before.sets] != [(s.name, s.labels, s.nets) for s in after.sets]:
        return False
    return list(map(_content, before.endpoints)) == list(map(_content, after.endpoints))


def _content(endpoint: Endpoint) -> tuple[object, ...]:
    return endpoint.name, endpoint.node, endpoint.labels, endpoint.addresses, endpoint.ports, endpoint.profiles
