"""What another node contributes to this one's kernel: the way to its blocks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from tortie.api.internal import ItemError, NodePeerSpec, Pool, Settings, tunnel_mac
from tortie.nodeagent.desired import VXLAN, Route
from tortie.nodeagent.facts import Uplink

Network = IPv4Network | IPv6Network


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


def contributed(peer: NodePeerSpec) -> tuple[object, ...]:
    """All of a remote peer that plans depend on."""
    return peer.addresses, peer.blocks, peer.tunnels


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
