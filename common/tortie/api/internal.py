"""The kinds of group `tortie.io`, through which the operator speaks to the agents (docs/design/internal-kinds.md).

The rule behind them: one change in the cluster is one write, however many nodes there are. Only the operator writes
them; `NodeState.status` alone belongs to the agent of that node.
"""

from __future__ import annotations

import hashlib

from tortie.api.meta import Condition, Metadata, Object, Record

GROUP = "tortie.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FORMAT = 1
"""Format of the internal objects. An agent reads its own format and the one before and after it."""

STAMPED = ("compiledtiers", "compiledpolicies", "compilednetworksets")
"""Plurals of the kinds whose acknowledged resourceVersions an `after` stamp carries."""


class Stamp(Record):
    """Who wrote an object, and what its reader must have seen before it may adopt it.

    `epoch` is the writer's lease epoch (leaseTransitions of the operator's Lease): a writer that meets a higher one
    exits. `after` maps a plural of STAMPED to the highest resourceVersion of that kind that the API server had
    acknowledged to the writer.
    """

    format: int = FORMAT
    epoch: int = 0
    after: dict[str, int] = {}


class CompiledTierSpec(Stamp):
    order: float | None = None
    default_action: str = "Deny"


class CompiledTier(Object):
    api_version: str = API_VERSION
    kind: str = "CompiledTier"
    metadata: Metadata
    spec: CompiledTierSpec


class Source(Record):
    """The object that a compiled one was made from."""

    kind: str
    """One of knp np gnp cnp snp sgnp sknp kns ksa."""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    generation: int = 0


class CompiledRule(Record):
    """One rule of the normal form; the fields beyond the action come with policies."""

    action: str
    id: str
    """16 hex digits: the first 8 bytes of SHA-256 over source uid, direction, canonical rule and occurrence."""


class CompiledPolicySpec(Stamp):
    """A policy, or the profile of a namespace (`kns`) or service account (`ksa`), which has labels to inherit."""

    source: Source
    ingress: tuple[CompiledRule, ...] = ()
    egress: tuple[CompiledRule, ...] = ()
    labels: dict[str, str] = {}
    """Labels that the profile's endpoints inherit, prefixed `pcns.` or `pcsa.`."""


class CompiledPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "CompiledPolicy"
    metadata: Metadata
    spec: CompiledPolicySpec


class CompiledNetworkSetSpec(Stamp):
    labels: dict[str, str] = {}
    nets: tuple[str, ...] = ()


class CompiledNetworkSet(Object):
    api_version: str = API_VERSION
    kind: str = "CompiledNetworkSet"
    metadata: Metadata
    spec: CompiledNetworkSetSpec


class LabelSet(Record):
    """One distinct set of labels of endpoints on a node. Namespace and service account by name: their labels come
    from the profiles, so that relabelling a namespace is one write."""

    labels: dict[str, str] = {}
    namespace: str = ""
    service_account: str = ""


class NamedPort(Record):
    name: str
    port: int
    protocol: str = "TCP"


class Attach(Record):
    """What the node itself needs to attach an endpoint."""

    mac: str = ""
    """Pod-side hardware address asked for by annotation; empty: the kernel's choice."""
    allowed_sources: tuple[str, ...] = ()
    ingress_bandwidth: int = 0
    """Bits per second; 0: unlimited."""
    egress_bandwidth: int = 0


class Endpoint(Record):
    """A workload endpoint: the allocation record of its addresses, from the moment its pod is scheduled."""

    name: str
    """`namespace/name` of the pod."""
    uid: str
    addresses: tuple[str, ...] = ()
    """At most one IPv4 and one IPv6 address, without prefix length."""
    error: str = ""
    """Why there are no addresses, for the CNI plugin's answer and an Event."""
    labels: int = 0
    """Index into `NodePeerSpec.label_sets`."""
    ports: tuple[NamedPort, ...] = ()
    attach: Attach | None = None


class Tunnels(Record):
    """Addresses of the node's own tunnel devices, from IPAM; empty: none."""

    vxlan4: str = ""
    vxlan6: str = ""


class NodePeerSpec(Stamp):
    """What all other nodes must know of one node."""

    uid: str = ""
    """UID of the Node object: a Node of the same name made anew starts from nothing."""
    addresses: tuple[str, ...] = ()
    """Node InternalIPs, IPv4 first."""
    blocks: tuple[str, ...] = ()
    """CIDRs of the address blocks affine to the node."""
    tunnels: Tunnels = Tunnels()
    label_sets: tuple[LabelSet, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class NodePeer(Object):
    api_version: str = API_VERSION
    kind: str = "NodePeer"
    metadata: Metadata
    spec: NodePeerSpec


class Pool(Record):
    """An IPPool as agents need it: for NAT and for the choice of encapsulation."""

    cidr: str
    vxlan_mode: str = "Never"
    ipip_mode: str = "Never"
    nat_outgoing: bool = False
    disable_bgp_export: bool = False


class Settings(Record):
    """FelixConfiguration resolved for one node (per node > by selector > default > built-in); defaults are Calico's."""

    vxlan_vni: int = 4096
    vxlan_port: int = 4789
    vxlan_mtu: int = 0
    """0: the uplink's less the encapsulation."""
    vxlan_mtu_v6: int = 0
    mtu_iface_pattern: str = r"^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"
    device_route_protocol: int = 80
    """3 means "boot" in Calico and is everybody's; Tortie then uses 80."""
    ipv4_route_priority: int = 1024
    ipv6_route_priority: int = 1024
    nat_port_range: str = ""
    """`first:last` for source NAT; empty: the kernel's choice."""
    nat_outgoing_address: str = ""
    """Source NAT to this address instead of masquerading."""
    nat_outgoing_exclusions: str = "IPPoolsOnly"
    default_endpoint_to_host_action: str = "Accept"
    ipv6_support: bool = True
    log_severity: str = "Info"


class NodeStateSpec(Stamp):
    """What one node must do itself."""

    uid: str = ""
    settings: Settings = Settings()
    pools: tuple[Pool, ...] = ()
    releasing: tuple[str, ...] = ()
    """Blocks to be given back: the agent confirms in `status.released` that nothing on the node uses them."""


class ItemError(Record):
    """Something the agent could not do, by the item it was doing it for (`endpoint/ns/name`, `route/10.0.0.0/26` …)."""

    item: str
    message: str


class NodeStateStatus(Record):
    """Written by the node's agent alone."""

    format: int = FORMAT
    generation: int = 0
    """metadata.generation of the NodeState that is in the kernel."""
    applied: dict[str, int] = {}
    """Plural → resourceVersion up to which that kind is in the kernel."""
    conditions: tuple[Condition, ...] = ()
    released: tuple[str, ...] = ()
    errors: tuple[ItemError, ...] = ()
    heartbeat: str = ""


class NodeState(Object):
    api_version: str = API_VERSION
    kind: str = "NodeState"
    metadata: Metadata
    spec: NodeStateSpec = NodeStateSpec()
    status: NodeStateStatus = NodeStateStatus()


class NodeReport(Record):
    node: str
    reason: str = ""


class PolicyStatusSpec(Record):
    """How far a policy is in force. It has no `after`: no agent watches it."""

    format: int = FORMAT
    epoch: int = 0
    source: Source
    compiled_version: int = 0
    """resourceVersion of the CompiledPolicy that `enforced` counts; 0: none was written."""
    conditions: tuple[Condition, ...] = ()
    """`Accepted` and `Enforced`."""
    nodes: int = 0
    """Reachable nodes with a selected endpoint."""
    enforced: int = 0
    """Those of them that have `compiled_version` in the kernel, without an error for it."""
    waiting: tuple[NodeReport, ...] = ()
    failed: tuple[NodeReport, ...] = ()
    unreachable: tuple[NodeReport, ...] = ()
    """Nodes with a selected endpoint that do not report; not among `nodes`."""


class PolicyStatus(Object):
    api_version: str = API_VERSION
    kind: str = "PolicyStatus"
    metadata: Metadata
    spec: PolicyStatusSpec


def compiled_name(kind: str, name: str, namespace: str = "") -> str:
    """Name of the CompiledPolicy and PolicyStatus of an object.

    `<kind>.<namespace>.<name>`, `<kind>.<name>` for a global one; above Kubernetes' 253 characters the first 236, `-`
    and 16 hex digits of SHA-256 over the full name.
    """
    full = f"{kind}.{namespace}.{name}" if namespace else f"{kind}.{name}"
    if len(full) <= 253:
        return full
    return f"{full[:236]}-{hashlib.sha256(full.encode()).hexdigest()[:16]}"


def veth_name(namespace: str, name: str) -> str:
    """Host end of a pod's veth: `cali` and 11 hex digits of SHA-1 over `namespace.name`, as Calico names it."""
    return "cali" + hashlib.sha1(f"{namespace}.{name}".encode()).hexdigest()[:11]


def tunnel_mac(node: str) -> str:
    """Hardware address of a node's VXLAN device: every other node derives it from the name (Calico: `66:` + SHA-1)."""
    digest = hashlib.sha1(node.encode()).hexdigest()
    return "66:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))
