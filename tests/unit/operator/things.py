"""Objects as the API server would tell of them, for tests of what the operator makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tortie.api.calico import (
    BlockAffinity,
    BlockAffinitySpec,
    IPAMBlock,
    IPAMBlockSpec,
    IPPool,
    IPPoolSpec,
    IPReservation,
    IPReservationSpec,
)
from tortie.api.internal import Endpoint, LabelSet, NodePeer, NodePeerSpec, Tunnels
from tortie.api.kubernetes import (
    Container,
    ContainerPort,
    Namespace,
    Node,
    NodeAddress,
    NodeStatus,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    ServiceAccount,
)
from tortie.api.meta import Metadata
from tortie.operator.ipam.names import affinity_name, object_name

Labels = Mapping[str, str]


def meta(name: str, namespace: str = "", version: int = 1, labels: Labels | None = None, uid: str = "") -> Metadata:
    return Metadata(
        name=name,
        namespace=namespace,
        uid=uid or f"uid-{name}",
        resource_version=str(version),
        labels=dict(labels or {}),
    )


def pod(
    name: str,
    node: str = "n1",
    *,
    namespace: str = "default",
    uid: str = "",
    version: int = 1,
    created: str = "",
    labels: Labels | None = None,
    ips: Sequence[str] = (),
    phase: str = "",
    host_network: bool = False,
    account: str = "default",
    ports: Sequence[ContainerPort] = (),
) -> Pod:
    metadata = Metadata(
        name=name,
        namespace=namespace,
        uid=uid or f"uid-{name}",
        resource_version=str(version),
        creation_timestamp=created,
        labels=dict(labels or {}),
    )
    spec = PodSpec(
        node_name=node,
        host_network=host_network,
        service_account_name=account,
        containers=(Container(ports=tuple(ports)),),
    )
    return Pod(metadata=metadata, spec=spec, status=PodStatus(phase=phase, pod_ips=tuple(PodIP(ip=ip) for ip in ips)))


def node(name: str = "n1", *, version: int = 1, labels: Labels | None = None, ips: Sequence[str] = ()) -> Node:
    addresses = tuple(NodeAddress(type="InternalIP", address=ip) for ip in ips)
    return Node(metadata=meta(name, version=version, labels=labels), status=NodeStatus(addresses=addresses))


def namespace(name: str, *, version: int = 1, labels: Labels | None = None) -> Namespace:
    return Namespace(metadata=meta(name, version=version, labels=labels))


def account(name: str, namespace: str = "default", *, version: int = 1) -> ServiceAccount:
    return ServiceAccount(metadata=meta(name, namespace, version))


def pool(
    name: str,
    cidr: str,
    block_size: int = 0,
    *,
    version: int = 1,
    created: str = "",
    deleted: str = "",
    **spec: object,
) -> IPPool:
    metadata = Metadata(
        name=name, resource_version=str(version), creation_timestamp=created, deletion_timestamp=deleted
    )
    return IPPool(metadata=metadata, spec=IPPoolSpec(cidr=cidr, block_size=block_size, **spec))  # type: ignore[arg-type]


def reservation(*cidrs: str, version: int = 1) -> IPReservation:
    return IPReservation(metadata=meta("some", version=version), spec=IPReservationSpec(reserved_cidrs=cidrs))


def affinity(node: str, cidr: str, state: str = "confirmed", *, version: int = 1, kind: str = "host") -> BlockAffinity:
    spec = BlockAffinitySpec(state=state, node=node, cidr=cidr, type=kind)
    return BlockAffinity(metadata=meta(affinity_name(node, cidr), version=version), spec=spec)


def block(node: str, cidr: str, *, version: int = 1, unallocated: Sequence[int] = ()) -> IPAMBlock:
    spec = IPAMBlockSpec(
        cidr=cidr,
        affinity=f"host:{node}" if node else "",
        allocations=(),
        unallocated=tuple(unallocated),
        attributes=(),
        strict_affinity=False,
    )
    return IPAMBlock(metadata=meta(object_name(cidr), version=version), spec=spec)


def peer(
    node: str = "n1",
    entries: Mapping[str, Sequence[str]] | None = None,
    *,
    blocks: Sequence[str] = (),
    tunnels: Tunnels | None = None,
    errors: Mapping[str, str] | None = None,
    namespace: str = "default",
    version: int = 1,
    epoch: int = 1,
) -> NodePeer:
    """`entries`: name of a pod → its addresses; UIDs are as `pod` makes them."""
    endpoints = [
        Endpoint(name=f"{namespace}/{name}", uid=f"uid-{name}", addresses=tuple(addresses))
        for name, addresses in (entries or {}).items()
    ]
    endpoints += [
        Endpoint(name=f"{namespace}/{name}", uid=f"uid-{name}", error=e) for name, e in (errors or {}).items()
    ]
    spec = NodePeerSpec(
        epoch=epoch,
        blocks=tuple(blocks),
        tunnels=tunnels or Tunnels(),
        label_sets=(LabelSet(namespace=namespace, service_account="default"),) if endpoints else (),
        endpoints=tuple(endpoints),
    )
    return NodePeer(metadata=meta(node, version=version), spec=spec)
