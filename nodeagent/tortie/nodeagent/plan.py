"""From adopted objects and local facts to what the kernel should hold. Pure.

What one peer contributes is remembered by its inputs, so that a pod that starts on one of 5,000 nodes costs the others
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

import msgspec

from tortie.api.internal import ItemError, NodePeer, NodePeerSpec, NodeState, Pool, Settings, tunnel_mac
from tortie.nodeagent.desired import (
    GATEWAY6,
    HOST_MAC,
    HOST_SYSCTLS,
    HOST_SYSCTLS6,
    VXLAN,
    WORKLOAD_SYSCTLS,
    WORKLOAD_SYSCTLS6,
    Datapath,
    DatapathEndpoint,
    Desired,
    Link,
    Links,
    Neighbours,
    Route,
    Routes,
    State,
    Table,
    Vxlan,
)
from tortie.nodeagent.endpoints import EndpointRecord
from tortie.nodeagent.facts import Facts, Uplink
from tortie.nodeagent.remote import Context, Network, Part, contributed, contribution, family, metric, of_family

OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds per packet over IPv4 and IPv6."""


def collapsed(cidrs: Sequence[str]) -> tuple[str, ...]:
    """Sorted and disjoint, as an interval set needs them."""
    nets: list[Network] = [ip_network(cidr, strict=False) for cidr in cidrs]
    four = collapse_addresses(n for n in nets if isinstance(n, IPv4Network))
    six = collapse_addresses(n for n in nets if isinstance(n, IPv6Network))
    return (*map(str, four), *map(str, six))


class Planner:
    """`desired` with a memory for the peers' parts, keyed by everything that goes into them."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._context: Context | None = None
        self._parts: dict[str, tuple[tuple[object, ...], Part]] = {}

    def desired(
        self, state: NodeState, peers: Mapping[str, NodePeer], facts: Facts, records: Sequence[EndpointRecord]
    ) -> Desired:
        """`peers` holds this node's own, too."""
        own = peers[self.node].spec
        settings, pools = state.spec.settings, state.spec.pools
        if not facts.ipv6:
            settings = msgspec.structs.replace(settings, ipv6_support=False)
        uplinks = tuple((v, u) for v, u in ((4, facts.uplink4), (6, facts.uplink6)) if u)
        tunnels = self._tunnels(own, settings, pools, dict(uplinks), facts.mtu)
        context = Context(settings, pools, uplinks, tuple(tunnels))
        remote = self._remote(context, peers)
        local = workloads(own, records, facts, settings)
        mtu = pod_mtu(settings, pools, facts.mtu)
        sysctls = dict(HOST_SYSCTLS) | (HOST_SYSCTLS6 if settings.ipv6_support else {})
        links = {link.name: link for link in tunnels.values()}
        for record, _, _ in local:
            gateway = frozenset({f"{GATEWAY6}/64"}) if settings.ipv6_support else frozenset()
            links[record.host_ifname] = Link(record.host_ifname, HOST_MAC, record.mtu or mtu, gateway)
            each = WORKLOAD_SYSCTLS | (WORKLOAD_SYSCTLS6 if settings.ipv6_support else {})
            sysctls |= {path.format(record.host_ifname): value for path, value in each.items()}
        protocol = 80 if settings.device_route_protocol == 3 else settings.device_route_protocol
        attached = {(r.host_ifname, r.host_ifindex) for r, _, _ in local}
        absent = [r for r in records if (r.host_ifname, r.host_ifindex) not in attached]
        return Desired(
            links=Links(links, sysctls),
            routes=Routes(protocol, remote.routes | own_routes(own, local, settings)),
            neighbours=Neighbours(remote.neighbours, remote.forwarding),
            table=table(own, settings, pools, peers),
            datapath=Datapath(
                endpoints=frozenset(datapath_endpoint(record, state) for record, state, _ in local),
                node_addresses=node_addresses(own, facts),
            ),
            pod_mtu=mtu,
            problems=(*problems(pools, own, facts), *remote.problems, *map(absence, absent)),
        )

    def _tunnels(
        self, own: NodePeerSpec, settings: Settings, pools: Sequence[Pool], uplinks: Mapping[int, Uplink], mtu: int
    ) -> dict[int, Link]:
        found = {}
        for version, address in ((4, own.tunnels.vxlan4), (6, own.tunnels.vxlan6)):
            uplink = uplinks.get(version)
            if address and uplink and encapsulated(pools, version, settings):
                outer = Vxlan(settings.vxlan_vni, settings.vxlan_port, uplink.address, uplink.device)
                prefix = frozenset({f"{address}/{32 if version == 4 else 128}"})
                size = vxlan_mtu(settings, version, mtu)
                found[version] = Link(VXLAN[version], tunnel_mac(self.node), size, prefix, outer)
        return found

    def _remote(self, context: Context, peers: Mapping[str, NodePeer]) -> Part:
        if context != self._context:
            self._context, self._parts = context, {}
        parts = {}
        for name, peer in peers.items():
            if name == self.node:
                continue
            spec = peer.spec
            inputs = contributed(spec)
            known = self._parts.get(name)
            parts[name] = known if known and known[0] == inputs else (inputs, contribution(name, spec, context))
        self._parts = parts
        whole = Part()
        for _, part in parts.values():
            whole.routes |= part.routes
            whole.neighbours |= part.neighbours
            whole.forwarding |= part.forwarding
            whole.problems += part.problems
        return whole


def encapsulated(pools: Sequence[Pool], version: int, settings: Settings) -> bool:
    """Whether some pool of that family uses VXLAN, be it only between subnets."""
    if version == 6 and not settings.ipv6_support:
        return False
    return any(family(pool.cidr) == version and pool.vxlan_mode != "Never" for pool in pools)


def vxlan_mtu(settings: Settings, version: int, uplink_mtu: int) -> int:
    return (settings.vxlan_mtu if version == 4 else settings.vxlan_mtu_v6) or uplink_mtu - OVERHEAD[version]


def pod_mtu(settings: Settings, pools: Sequence[Pool], uplink_mtu: int) -> int:
    """The smallest over all encapsulations in use (Calico), the uplink's without any."""
    sizes = [vxlan_mtu(settings, v, uplink_mtu) for v in (4, 6) if encapsulated(pools, v, settings)]
    return min(sizes, default=uplink_mtu)


def workloads(
    own: NodePeerSpec, records: Sequence[EndpointRecord], facts: Facts, settings: Settings
) -> list[tuple[EndpointRecord, State, tuple[str, ...]]]:
    """Attached endpoints that have a device, with their state and the addresses that are routed to them.

    An address belongs to whom the adopted NodePeer names, else to the newest record: a sandbox that outlives its pod
    keeps no address that was given to another.
    """
    entries = {(entry.name, entry.uid): entry for entry in own.endpoints if not entry.error}
    holders = {address: entry.uid for entry in entries.values() for address in entry.addresses}
    live = [r for r in records if (r.host_ifname, r.host_ifindex) in facts.workloads]
    newest = {r.host_ifname: r for r in sorted(live, key=lambda r: r.created)}
    for record in newest.values():
        for address in record.addresses:
            holders.setdefault(address, record.uid)
    found = []
    for record in newest.values():
        entry = entries.get((f"{record.namespace}/{record.name}", record.uid))
        state: State = "OPEN" if entry and set(record.addresses) <= set(entry.addresses) else "PENDING"
        held = (a for a in record.addresses if holders[a] == record.uid)
        found.append((record, state, tuple(a for a in held if settings.ipv6_support or family(a) == 4)))
    return found


def own_routes(
    own: NodePeerSpec, local: Sequence[tuple[EndpointRecord, State, tuple[str, ...]]], settings: Settings
) -> dict[tuple[str, int], Route]:
    """To local pods; the rest of the own blocks is unreachable, so that it does not loop through the router."""
    routes = {
        (block, metric(settings, family(block))): Route("unreachable")
        for block in own.blocks
        if settings.ipv6_support or family(block) == 4
    }
    for record, _, addresses in local:
        for address in addresses:
            four = family(address) == 4
            key = (f"{address}/{32 if four else 128}", metric(settings, family(address)))
            routes[key] = Route("unicast", record.host_ifname, link_scope=four)
    return routes


def datapath_endpoint(record: EndpointRecord, state: State) -> DatapathEndpoint:
    four, six = of_family(record.addresses, 4), of_family(record.addresses, 6)
    return DatapathEndpoint(record.host_ifname, state, four, six, record.pod_mac.lower())


def node_addresses(own: NodePeerSpec, facts: Facts) -> tuple[str, ...]:
    mine = {*own.addresses, own.tunnels.vxlan4, own.tunnels.vxlan6} - {""}
    uplinks = {uplink.address for uplink in (facts.uplink4, facts.uplink6) if uplink}
    return tuple(sorted(mine | uplinks))


def table(own: NodePeerSpec, settings: Settings, pools: Sequence[Pool], peers: Mapping[str, NodePeer]) -> Table:
    exclusions = [pool.cidr for pool in pools]
    if settings.nat_outgoing_exclusions == "IPPoolsAndHostIPs":
        exclusions += [address for peer in peers.values() for address in peer.spec.addresses]
    return Table(
        pods=collapsed([*(pool.cidr for pool in pools), *own.blocks]),
        nat_sources=collapsed([pool.cidr for pool in pools if pool.nat_outgoing]),
        nat_exclusions=collapsed(exclusions),
        nat_ports=settings.nat_port_range.replace(":", "-"),
        nat_address=settings.nat_outgoing_address,
        drop_to_host=settings.default_endpoint_to_host_action.lower() == "drop",
    )


def problems(pools: Sequence[Pool], own: NodePeerSpec, facts: Facts) -> list[ItemError]:
    found = [
        ItemError(item=f"pool/{pool.cidr}", message=f"ipipMode {pool.ipip_mode} is not supported; use vxlanMode")
        for pool in pools
        if pool.ipip_mode != "Never"
    ]
    if not facts.ipv6 and any(family(block) == 6 for block in own.blocks):
        found.append(ItemError(item="ipv6", message="net.ipv6.conf.default.disable_ipv6 is set on this node"))
    carried = {uplink.address for uplink in (facts.uplink4, facts.uplink6) if uplink}
    found += [
        ItemError(item=f"address/{address}", message="no interface of this node carries it")
        for version in (4, 6)
        if (address := of_family(own.addresses, version)) and address not in carried
    ]
    return found


def absence(record: EndpointRecord) -> ItemError:
    return ItemError(item=f"endpoint/{record.namespace}/{record.name}", message=f"its {record.host_ifname} is gone")


def confined(releasing: Sequence[str], records: Sequence[EndpointRecord]) -> tuple[str, ...]:
    """Blocks of `releasing` that no attached endpoint uses."""
    used = [ip_address(address) for record in records for address in record.addresses] if releasing else []
    return tuple(block for block in releasing if not any(address in ip_network(block) for address in used))
