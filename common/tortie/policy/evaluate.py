"""The reference evaluator: may this flow pass, and which rules said so? Small, slow and straight; every other engine
must agree with it.

A flow has two sides. Egress is what happens where it starts: the policy of the workload that sends, and of the host
endpoints that its packet meets on that node. Ingress is the same where it arrives, and where its destination is
translated on the way. Both are always judged, so that people see all that is in the way; a side ends at its first Deny.

At a host endpoint (calico.md §3.5; the order of hooks as in felix/bpf/polprog): untracked policy, policy before
DNAT (both see the destination before translation, and an Allow of either is the endpoint's last word), then for what is
forwarded the policies with applyOnForward, else all others and the profiles. The one with interface `*` stands for
every interface that has none of its own, those of pods included: what a pod sends enters the host there.
"""

from __future__ import annotations

from collections.abc import Callable

from tortie.api.felix import FailsafePort
from tortie.api.meta import Record
from tortie.api.protocols import NUMBERS
from tortie.policy.cluster import (
    EVERY_INTERFACE,
    FORWARD,
    NORMAL,
    PRE_DNAT,
    UNTRACKED,
    WORKLOAD,
    Address,
    Cluster,
    Endpoint,
    network,
)
from tortie.policy.flows import Flow, Journey, journey
from tortie.policy.judge import ALLOW, DENY, FAILSAFE, TO_HOST, Step, by_policies, by_profiles
from tortie.policy.match import Packet

INGRESS, EGRESS = "Ingress", "Egress"


class Side(Record, omit_defaults=False):
    verdict: str
    """allow or deny."""
    trace: tuple[Step, ...] = ()


class Verdict(Record):
    id: int | str
    verdict: str
    egress: Side | None = None
    ingress: Side | None = None
    """None: not asked for."""


def evaluate(cluster: Cluster, flow: Flow) -> Verdict:
    """Raises FlowError."""
    way = journey(cluster, flow)
    egress = None if flow.direction == "ingress" else _side(_egress, cluster, way)
    ingress = None if flow.direction == "egress" else _side(_ingress, cluster, way)
    allowed = all(side is None or side.verdict == "allow" for side in (egress, ingress))
    return Verdict(id=flow.id, verdict="allow" if allowed else "deny", egress=egress, ingress=ingress)


Judge = Callable[[Cluster, Journey, list[Step]], bool]


def _side(judge: Judge, cluster: Cluster, way: Journey) -> Side:
    trace: list[Step] = []
    allowed = judge(cluster, way, trace)
    return Side(verdict="allow" if allowed else "deny", trace=tuple(trace))


def _egress(cluster: Cluster, way: Journey, trace: list[Step]) -> bool:
    source, target = way.source, way.target
    if source.is_outside or _never_policed(way):
        return True
    stays = bool(source.node) and source.node == target.node
    wire = None if stays else _wire(cluster, source.node, way.packet.source.address, local=source.is_host)
    if source.workload is None:
        return _host_endpoint(cluster, wire, EGRESS, (UNTRACKED, NORMAL), way, trace)
    to_own_host = target.is_host and stays
    every = _every_interface(cluster, source.node)
    if not to_own_host and not _host_endpoint(cluster, every, INGRESS, (PRE_DNAT, FORWARD), way, trace):
        return False
    if not _workload(cluster, source.workload, EGRESS, way.packet, trace):
        return False
    if to_own_host:
        return _to_own_host(cluster, source.node, trace)
    return stays or _host_endpoint(cluster, wire, EGRESS, (FORWARD,), way, trace)


def _ingress(cluster: Cluster, way: Journey, trace: list[Step]) -> bool:
    source, target, front = way.source, way.target, way.front
    if _never_policed(way):
        return True
    passes = source.is_outside and front.is_host and front.node != target.node
    if passes and not _pass_through(cluster, way, trace):
        return False
    if target.is_outside:
        return True
    if not source.node or source.node != target.node:
        # senders inside, and hosts that a packet passes through, have translated it before it is on the wire
        arrives = way if source.is_outside and not passes else _translated(way)
        hooks = (UNTRACKED, PRE_DNAT, NORMAL) if target.is_host else (UNTRACKED, PRE_DNAT, FORWARD)
        wire = _wire(cluster, target.node, arrives.original.destination.address, local=arrives.front.is_host)
        if not _host_endpoint(cluster, wire, INGRESS, hooks, arrives, trace):
            return False
    elif target.is_host:
        every = _every_interface(cluster, target.node)
        returns = cluster.settings(target.node).default_endpoint_to_host_action == "Return"
        return _host_endpoint(cluster, every, INGRESS, (PRE_DNAT, NORMAL) if returns else (PRE_DNAT,), way, trace)
    if target.workload is None:
        return True
    every = _every_interface(cluster, target.node)
    if not _host_endpoint(cluster, every, EGRESS, (FORWARD,), way, trace):
        return False
    return _workload(cluster, target.workload, INGRESS, way.packet, trace)


def _pass_through(cluster: Cluster, way: Journey, trace: list[Step]) -> bool:
    """At a host that translates the destination of what comes from outside, and sends it on to another node."""
    node = way.front.node
    wire = _wire(cluster, node, way.original.destination.address, local=True)
    if not _host_endpoint(cluster, wire, INGRESS, (UNTRACKED, PRE_DNAT, FORWARD), way, trace):
        return False
    return _host_endpoint(cluster, wire, EGRESS, (FORWARD,), way, trace)


def _translated(way: Journey) -> Journey:
    return Journey(way.source, way.target, way.target, way.packet, way.packet)


def _never_policed(way: Journey) -> bool:
    """A workload to itself; what stays within a host; and a host to its own workloads, as its probes do."""
    source, target = way.source, way.target
    if source.workload is not None:
        return source.workload is target.workload
    return source.is_host and source.node == target.node


def _workload(cluster: Cluster, endpoint: Endpoint, direction: str, packet: Packet, trace: list[Step]) -> bool:
    verdict = by_policies(cluster, endpoint, direction, WORKLOAD, packet, trace)
    return (verdict or by_profiles(cluster, endpoint, direction, packet, trace)) == ALLOW


def _to_own_host(cluster: Cluster, node: str, trace: list[Step]) -> bool:
    action = cluster.settings(node).default_endpoint_to_host_action
    verdict = DENY if action == "Drop" else ALLOW
    trace.append(Step(kind="Node", name=node, rule=TO_HOST, action=verdict))
    return verdict == ALLOW


def _host_endpoint(
    cluster: Cluster, endpoint: Endpoint | None, direction: str, hooks: tuple[str, ...], way: Journey, trace: list[Step]
) -> bool:
    """What a host endpoint makes of a packet that crosses it. Without one there is no policy."""
    if endpoint is None:
        return True
    if NORMAL in hooks and _is_failsafe(cluster, endpoint.node, direction, way.packet):
        trace.append(Step(kind="HostEndpoint", name=endpoint.name, rule=FAILSAFE, action=ALLOW))
        return True
    for hook in hooks:
        packet = way.original if hook in (UNTRACKED, PRE_DNAT) else way.packet
        verdict = by_policies(cluster, endpoint, direction, hook, packet, trace)
        if verdict is None and hook == NORMAL:
            verdict = by_profiles(cluster, endpoint, direction, packet, trace)
        if verdict is not None:
            return verdict == ALLOW
    return True


def _is_failsafe(cluster: Cluster, node: str, direction: str, packet: Packet) -> bool:
    inbound, outbound = cluster.failsafes(node)
    remote = packet.source if direction == INGRESS else packet.destination
    return any(_is_open(port, packet, remote.address) for port in (inbound if direction == INGRESS else outbound))


def _is_open(failsafe: FailsafePort, packet: Packet, remote: Address) -> bool:
    if packet.port != failsafe.port or packet.protocol != NUMBERS[failsafe.protocol]:
        return False
    return not failsafe.net or remote in network(failsafe.net)


def _every_interface(cluster: Cluster, node: str) -> Endpoint | None:
    return next((each for each in cluster.hosts.get(node, ()) if each.interface == EVERY_INTERFACE), None)


def _wire(cluster: Cluster, node: str, address: Address, *, local: bool) -> Endpoint | None:
    """The host endpoint of the interface by which a node reaches other machines.

    Files do not say which interfaces a node has. It is the one that expects the address that the packet has on this
    node; for a packet that is forwarded, the node's first address of that family. Failing that a named one that
    expects no addresses, then `*`. Of several, the first by name.
    """
    if not local:
        own = cluster.nodes[node].addresses if node in cluster.nodes else ()
        address = next((each for each in own if each.version == address.version), address)
    named = [each for each in cluster.hosts.get(node, ()) if each.interface != EVERY_INTERFACE]
    expecting = [each for each in named if address in each.addresses]
    silent = [each for each in named if not each.addresses]
    return next(iter(expecting + silent), None) or _every_interface(cluster, node)
