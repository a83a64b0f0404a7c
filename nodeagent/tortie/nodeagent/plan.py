"""From adopted objects and local facts to what the kernel should hold. Pure.

What one peer contributes is remembered by its inputs, so that a pod that starts on one of 5,000 nodes costs the others
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

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

Network = IPv4Network | IPv6Network

OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds per packet over IPv4 and IPv6."""


@dataclass(frozen=True)
class Context:
    """All that decides what a peer contributes, besides the peer itself."""

    settings: Settings
    pools: tuple[Pool, ...]
    uplinks: tuple[tuple[int, Uplink], ...]
    tunnels: tuple[int, ...]
    """Families of which this node has a VXLAN device."""


@dataclass
class Part:
    """What one peer contributes."""

    routes: dict[tuple[str, int], Route] = field(default_factory=dict)
    neighbours: dict[tuple[str, str], str] = field(default_factory=dict)
    forwarding: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[ItemError] = field(default_factory=list)


def family(text: str) -> int:
    return 6 if ":" in text else 4


def of_family(addresses: Sequence[str], version: int) -> str:
    """The first address of that family, or empty."""
    return next((a for a in addresses if family(a) == version), "")


def metric(settings: Settings, version: int) -> int:
    """IPv6 knows no metric 0: the kernel makes it 1024 (IP6_RT_PRIO_USER)."""
    return settings.ipv4_route_priority if version == 4 else settings.ipv6_route_priority or 1024


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
            inputs = (spec.addresses, spec.blocks, spec.tunnels)
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


def contribution(node: str, peer: NodePeerSpec, context: Context) -> Part:
    """Routes to a peer's blocks, and the entries that its tunnel address needs."""
    part = Part()
    tunnels = {4: peer.tunnels.vxlan4, 6: peer.tunnels.vxlan6}
    for version in context.tunnels:
        outer = of_family(peer.addresses, version)
        if tunnels[version] and outer:
            part.neighbours[VXLAN[version], tunnels[version]] = tunnel_mac(node)
            part.forwarding[VXLAN[version], tunnel_mac(node)] = outer
    pools = [(ip_network(pool.cidr), pool) for pool in context.pools]
    for block in peer.blocks:
        net = ip_network(block)
        if net.version == 6 and not context.settings.ipv6_support:
            continue
        mode = next((pool.vxlan_mode for cidr, pool in pools if within(net, cidr)), "Never")
        found = way(node, net, mode, of_family(peer.addresses, net.version), tunnels[net.version], context)
        if isinstance(found, Route):
            part.routes[block, metric(context.settings, net.version)] = found
        else:
            part.problems.append(ItemError(item=f"route/{block}", message=found))
    return part


def within(net: Network, cidr: Network) -> bool:
    if isinstance(net, IPv4Network):
        return isinstance(cidr, IPv4Network) and net.subnet_of(cidr)
    return isinstance(cidr, IPv6Network) and net.subnet_of(cidr)


def way(node: str, net: Network, mode: str, address: str, tunnel: str, context: Context) -> Route | str:
    """The route to a block of `node`, or why there is none."""
    uplink = dict(context.uplinks).get(net.version)
    if not address or uplink is None:
        return f"node {node} or this one has no IPv{net.version} address"
    near = any(ip_address(address) in ip_network(prefix) for prefix in uplink.prefixes)
    if mode == "Always" or (mode == "CrossSubnet" and not near):
        if not tunnel or net.version not in context.tunnels:
            return f"node {node} or this one has no IPv{net.version} tunnel address yet"
        return Route("unicast", VXLAN[net.version], tunnel, onlink=True)
    if not near:
        return f"node {node} is in another subnet and the pool's vxlanMode is {mode}: only BGP could make that route"
    return Route("unicast", uplink.device, address)


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
    used = [ip_address(address) for record in records for address in record.addresses]
    return tuple(block for block in releasing if not any(address in ip_network(block) for address in used))
