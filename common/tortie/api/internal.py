"""The kinds of group `tortie.io`, through which the operator speaks to the agents (docs/design/internal-kinds.md).

The rule behind them: one change in the cluster is one write, however many nodes there are. Only the operator writes
them; `NodeState.status` alone belongs to the agent of that node. The compiled kinds are in `tortie.api.compiled`.
"""

from __future__ import annotations

import hashlib

from tortie.api.compiled import API_VERSION as API_VERSION
from tortie.api.compiled import FORMAT as FORMAT
from tortie.api.compiled import GROUP as GROUP
from tortie.api.compiled import STAMPED as STAMPED
from tortie.api.compiled import VERSION as VERSION
from tortie.api.compiled import CompiledNetworkSet as CompiledNetworkSet
from tortie.api.compiled import CompiledNetworkSetSpec as CompiledNetworkSetSpec
from tortie.api.compiled import CompiledPolicy as CompiledPolicy
from tortie.api.compiled import CompiledPolicySpec as CompiledPolicySpec
from tortie.api.compiled import CompiledRule as CompiledRule
from tortie.api.compiled import CompiledTier as CompiledTier
from tortie.api.compiled import CompiledTierSpec as CompiledTierSpec
from tortie.api.compiled import Source as Source
from tortie.api.compiled import Stamp as Stamp
from tortie.api.meta import Condition, Metadata, Object, Record


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
    """UID of the Node object."""
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
    """Which policy. It has no `after`: no agent watches it."""

    format: int = FORMAT
    epoch: int = 0
    source: Source


class PolicyStatusStatus(Record):
    """How far the policy is in force. A part of the object like any other: `kubectl wait` looks for conditions here."""

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
    status: PolicyStatusStatus = PolicyStatusStatus()


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
