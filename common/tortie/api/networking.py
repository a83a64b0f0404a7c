"""Kubernetes' policies: NetworkPolicy (networking.k8s.io/v1) and ClusterNetworkPolicy
(policy.networking.k8s.io/v1alpha2, kubernetes-sigs/network-policy-api)."""

from __future__ import annotations

import msgspec

from tortie.api.meta import Condition, Metadata, Object, Record
from tortie.api.rules import IntOrString


class Requirement(Record):
    key: str = ""
    operator: str = ""
    """In, NotIn, Exists or DoesNotExist."""
    values: tuple[str, ...] = ()


class LabelSelector(Record):
    """All of it must hold; empty: everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Requirement, ...] = ()


class IPBlock(Record):
    cidr: str = ""
    excluded: tuple[str, ...] = msgspec.field(default=(), name="except")


class NetworkPolicyPeer(Record):
    """Either pods, by selectors of which None and an empty one differ, or an IPBlock."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None


class NetworkPolicyPort(Record):
    protocol: str | None = None
    """None: TCP."""
    port: IntOrString | None = None
    end_port: int | None = None


class NetworkPolicyIngressRule(Record):
    peers: tuple[NetworkPolicyPeer, ...] = msgspec.field(default=(), name="from")
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicyEgressRule(Record):
    peers: tuple[NetworkPolicyPeer, ...] = msgspec.field(default=(), name="to")
    ports: tuple[NetworkPolicyPort, ...] = ()


class NetworkPolicySpec(Record):
    pod_selector: LabelSelector = LabelSelector()
    ingress: tuple[NetworkPolicyIngressRule, ...] = ()
    egress: tuple[NetworkPolicyEgressRule, ...] = ()
    policy_types: tuple[str, ...] = ()


class NetworkPolicy(Object):
    api_version: str = "networking.k8s.io/v1"
    kind: str = "NetworkPolicy"
    metadata: Metadata
    spec: NetworkPolicySpec = NetworkPolicySpec()


class NamespacedPod(Record):
    namespace_selector: LabelSelector = LabelSelector()
    pod_selector: LabelSelector = LabelSelector()


class Subject(Record):
    """Exactly one of them."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None


class ClusterPeer(Record):
    """Exactly one of them; `networks`, `nodes` and `domainNames` at the destination only."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None
    networks: tuple[str, ...] = ()
    nodes: LabelSelector | None = None
    """Not understood here."""
    domain_names: tuple[str, ...] = ()
    """Not understood here."""


class PortRange(Record):
    start: int
    end: int


class PortMatch(Record):
    """Exactly one of them."""

    number: int = 0
    range: PortRange | None = None


class ProtocolPorts(Record):
    destination_port: PortMatch | None = None


class ClusterProtocol(Record):
    """Exactly one of them."""

    tcp: ProtocolPorts | None = None
    udp: ProtocolPorts | None = None
    sctp: ProtocolPorts | None = None
    destination_named_port: str = ""


class ClusterIngressRule(Record):
    name: str = ""
    action: str
    """Accept, Deny or Pass."""
    peers: tuple[ClusterPeer, ...] = msgspec.field(default=(), name="from")
    protocols: tuple[ClusterProtocol, ...] = ()


class ClusterEgressRule(Record):
    name: str = ""
    action: str
    peers: tuple[ClusterPeer, ...] = msgspec.field(default=(), name="to")
    protocols: tuple[ClusterProtocol, ...] = ()


class ClusterNetworkPolicySpec(Record):
    tier: str
    """Admin or Baseline."""
    priority: int
    """0 to 1000, the least first."""
    subject: Subject
    ingress: tuple[ClusterIngressRule, ...] = ()
    egress: tuple[ClusterEgressRule, ...] = ()


class ClusterNetworkPolicyStatus(Record):
    conditions: tuple[Condition, ...] = ()


class ClusterNetworkPolicy(Object):
    api_version: str = "policy.networking.k8s.io/v1alpha2"
    kind: str = "ClusterNetworkPolicy"
    metadata: Metadata
    spec: ClusterNetworkPolicySpec
    status: ClusterNetworkPolicyStatus = ClusterNetworkPolicyStatus()
