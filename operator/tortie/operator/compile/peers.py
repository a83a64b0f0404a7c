"""What all nodes must know of one node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tortie.api.internal import Endpoint, LabelSet, NamedPort, NodePeerSpec
from tortie.api.kubernetes import Node, Pod
from tortie.operator.ipam.assignment import Assignment

NOISE = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "controller-revision-hash",
        "controller-uid",
        "pod-template-generation",
        "pod-template-hash",
        "statefulset.kubernetes.io/pod-name",
    }
)
"""Label keys that controllers set anew for every pod or revision. With them nearly every pod would have a label set of
its own; they are left out unless a selector names them."""


def networked(pod: Pod) -> bool:
    """Whether a pod is a workload endpoint: on a node, with a network of its own, and not ended."""
    return bool(pod.spec.node_name) and not pod.spec.host_network and not pod.ended


def label_set(pod: Pod, named: Collection[str]) -> LabelSet:
    """The labels of a pod that policies may speak of; `named`: noise keys that some selector names."""
    labels = {k: v for k, v in sorted(pod.metadata.labels.items()) if k not in NOISE or k in named}
    return LabelSet(
        labels=labels,
        namespace=pod.metadata.namespace,
        service_account=pod.spec.service_account_name or "default",
    )


def sort_key(labels: LabelSet) -> tuple[object, ...]:
    return labels.namespace, labels.service_account, tuple(labels.labels.items())


def addresses(node: Node) -> tuple[str, ...]:
    """InternalIPs, IPv4 first, each family in the order of the Node's status."""
    found = node.internal_ips
    return tuple([a for a in found if ":" not in a] + [a for a in found if ":" in a])


def peer(
    node: Node,
    pods: Sequence[Pod],
    assigned: Assignment,
    blocks: Collection[str],
    named: Collection[str] = (),
) -> NodePeerSpec:
    """The desired NodePeer, without its stamp. `blocks`: those that the node owns and does not give back.

    Pods that still wait for an address (neither in `assigned.addresses` nor in `.errors`) are left out.
    """
    served = [p for p in pods if p.metadata.uid in assigned.addresses or p.metadata.uid in assigned.errors]
    sets = {pod.metadata.uid: label_set(pod, named) for pod in served}
    distinct = {sort_key(labels): labels for labels in sets.values()}
    table = sorted(distinct)
    index: Mapping[tuple[object, ...], int] = {key: number for number, key in enumerate(table)}
    endpoints = [
        Endpoint(
            name=pod.metadata.key,
            uid=pod.metadata.uid,
            addresses=assigned.addresses.get(pod.metadata.uid, ()),
            error=assigned.errors.get(pod.metadata.uid, ""),
            labels=index[sort_key(sets[pod.metadata.uid])],
            ports=named_ports(pod),
        )
        for pod in served
    ]
    return NodePeerSpec(
        uid=node.metadata.uid,
        addresses=addresses(node),
        blocks=tuple(sorted(blocks)),
        tunnels=assigned.tunnels,
        label_sets=tuple(distinct[key] for key in table),
        endpoints=tuple(sorted(endpoints, key=lambda endpoint: (endpoint.name, endpoint.uid))),
    )


def named_ports(pod: Pod) -> tuple[NamedPort, ...]:
    return tuple(NamedPort(name=p.name, port=p.container_port, protocol=p.protocol) for p in pod.named_ports)
