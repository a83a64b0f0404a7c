"""From adopted objects to this node's image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network

from tortie.api.internal import CompiledNetworkSet, CompiledPolicy, CompiledTier, NodePeer
from tortie.nodeagent.endpoints import EndpointRecord
from tortie.nodeagent.policy import picture
from tortie.nodeagent.policy.image import Image, image


def wanted(
    node: str,
    peers: Mapping[str, NodePeer],
    policies: Iterable[CompiledPolicy],
    tiers: Iterable[CompiledTier],
    sets: Iterable[CompiledNetworkSet],
    records: Sequence[EndpointRecord],
) -> Image:
    """`peers` holds this node's own, too. What is attached and has no adopted entry has no stacks: it is PENDING."""
    cluster = picture.cluster(peers.values(), policies, tiers, sets)
    own = picture.own(cluster, node)
    uids = {entry.name: entry.uid for entry in peers[node].spec.endpoints}
    local = {
        record.host_ifname: own[name]
        for record in records
        if (name := f"{record.namespace}/{record.name}") in own and uids[name] == record.uid
    }
    specs = [peer.spec for peer in peers.values()]
    plain = {a for s in specs for a in (*s.addresses, s.tunnels.vxlan4, s.tunnels.vxlan6) if a}
    blocks = {block for spec in specs for block in spec.blocks}
    return image(cluster, local, map(ip_address, plain), list(map(ip_network, blocks)))
