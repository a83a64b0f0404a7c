"""What this node's kernel should hold, subsystem by subsystem: plain values, compared by value.

`plan` makes them; a reconciler's diff is a comparison of dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tortie.api.internal import ItemError

State = Literal["PENDING", "OPEN"]

HOST_MAC = "ee:ee:ee:ee:ee:ee"
"""Host end of every pod's veth (Calico)."""
GATEWAY6 = "fe80::ecee:eeff:feee:eeee"
"""Every pod's IPv6 gateway: the EUI-64 link-local address of HOST_MAC."""
VXLAN = {4: "vxlan.calico", 6: "vxlan-v6.calico"}
HOST_SYSCTLS = {"net/ipv4/ip_forward": "1"}
HOST_SYSCTLS6 = {"net/ipv6/conf/all/forwarding": "1"}
WORKLOAD_SYSCTLS = {
    "net/ipv4/conf/{}/forwarding": "1",
    "net/ipv4/conf/{}/rp_filter": "1",
    "net/ipv4/conf/{}/proxy_arp": "1",
    "net/ipv4/neigh/{}/proxy_delay": "0",
}
"""Per veth, as Felix sets them (felix endpoint_mgr.go); the gateway 169.254.1.1 is answered by proxy ARP, at once."""
WORKLOAD_SYSCTLS6 = {
    "net/ipv6/conf/{}/accept_dad": "0",
    "net/ipv6/conf/{}/accept_ra": "0",
    "net/ipv6/conf/{}/forwarding": "1",
    "net/ipv6/conf/{}/proxy_ndp": "1",
}


@dataclass(frozen=True)
class DatapathEndpoint:
    """One local endpoint for the eBPF programs on its veth.

    PENDING: sends and receives nothing but its own node's probes. OPEN: sends from `ipv4` and `ipv6` (empty: none of
    that family) and receives.
    """

    ifname: str
    state: State
    ipv4: str
    ipv6: str
    mac: str
    """The pod's hardware address, lower case with colons."""


@dataclass(frozen=True)
class Datapath:
    """Desired state of the eBPF subsystem."""

    endpoints: frozenset[DatapathEndpoint] = frozenset()
    node_addresses: tuple[str, ...] = ()
    """All addresses of this node that its own probes may come from and go to."""


@dataclass(frozen=True)
class Vxlan:
    vni: int
    port: int
    local: str
    """This node's address, the outer source."""
    parent: str
    """Name of the uplink."""


@dataclass(frozen=True)
class Link:
    """A device that is up, with these attributes. Only VXLAN devices are made (and removed) by the links reconciler;
    the CNI server makes the others."""

    name: str
    mac: str
    mtu: int
    addresses: frozenset[str]
    """With prefix length; global ones that are not here are removed from VXLAN devices."""
    vxlan: Vxlan | None = None


@dataclass(frozen=True)
class Links:
    links: Mapping[str, Link] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Path under /proc/sys → value."""


@dataclass(frozen=True)
class Route:
    """One route of the main table. `device` and `via` are empty where there is none."""

    kind: Literal["unicast", "unreachable"]
    device: str = ""
    via: str = ""
    onlink: bool = False
    link_scope: bool = False


@dataclass(frozen=True)
class Routes:
    protocol: int = 80
    routes: Mapping[tuple[str, int], Route] = field(default_factory=dict)
    """(destination CIDR, metric) → route."""


@dataclass(frozen=True)
class Neighbours:
    """Permanent entries of the VXLAN devices."""

    neighbours: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(device, tunnel address) → MAC."""
    forwarding: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(device, MAC) → node address (the FDB)."""


@dataclass(frozen=True)
class Table:
    """What the nftables table depends on; CIDRs of both families, sorted, disjoint."""

    pods: tuple[str, ...] = ()
    """Pools and own blocks: what the host sends there carries its mark."""
    nat_sources: tuple[str, ...] = ()
    """Pools with natOutgoing."""
    nat_exclusions: tuple[str, ...] = ()
    """Destinations that keep the pod's address as source."""
    nat_ports: str = ""
    nat_address: str = ""
    drop_to_host: bool = False
    """defaultEndpointToHostAction is Drop."""


@dataclass(frozen=True)
class Desired:
    links: Links
    routes: Routes
    neighbours: Neighbours
    table: Table
    datapath: Datapath
    pod_mtu: int
    problems: tuple[ItemError, ...] = ()
    """What cannot be had, and why."""
