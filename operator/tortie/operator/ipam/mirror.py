"""What IPAMBlock says of the addresses that NodePeers record, in Calico's words, for `calicoctl ipam`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tortie.api.calico import AllocationAttribute, IPAMBlockSpec
from tortie.api.internal import NodePeerSpec
from tortie.operator.ipam.reuse import Reuse

NETWORK = "k8s-pod-network"
TUNNEL_HANDLES = {4: "vxlan-tunnel-addr-", 6: "vxlan-v6-tunnel-addr-"}
TUNNEL_TYPES = {4: "vxlanTunnelAddress", 6: "vxlanV6TunnelAddress"}


@dataclass(frozen=True)
class Holder:
    """Who holds an address; `handle` is Calico's name for it."""

    handle: str
    attributes: tuple[tuple[str, str], ...]
    """Calico's keys and their values."""


def holders(node: str, peer: NodePeerSpec) -> dict[str, Holder]:
    """Everyone on a node that holds an address, by address."""
    found = {}
    for endpoint in peer.endpoints:
        namespace, _, name = endpoint.name.partition("/")
        attributes: tuple[tuple[str, str], ...] = (("namespace", namespace), ("node", node), ("pod", name))
        for address in endpoint.addresses:
            found[address] = Holder(f"{NETWORK}.{endpoint.uid}", attributes)
    for family, address in ((4, peer.tunnels.vxlan4), (6, peer.tunnels.vxlan6)):
        if address:
            attributes = (("node", node), ("type", TUNNEL_TYPES[family]))
            found[address] = Holder(f"{TUNNEL_HANDLES[family]}{node}", attributes)
    return found


def mirrored(before: IPAMBlockSpec, held: Mapping[str, Holder], reuse: Reuse) -> IPAMBlockSpec:
    """`before` with the allocations that `held` says; the same object if nothing changed."""
    ordinals = {ordinal: holder for address, holder in held.items() if (ordinal := reuse.ordinal(address)) is not None}
    attributes, allocations = tabled(ordinals, reuse.size)
    unallocated = tuple(ordinal for ordinal in reuse.ordinals if ordinal not in ordinals)
    if (before.allocations, before.unallocated, before.attributes) == (allocations, unallocated, attributes):
        return before
    number = before.sequence_number + 1
    since = {
        str(ordinal): (
            before.sequence_number_for_allocation.get(str(ordinal), number)
            if ordinal < len(before.allocations) and before.allocations[ordinal] is not None
            else number
        )
        for ordinal in ordinals
    }
    return msgspec.structs.replace(
        before,
        allocations=allocations,
        unallocated=unallocated,
        attributes=attributes,
        sequence_number=number,
        sequence_number_for_allocation=since,
    )


def tabled(ordinals: Mapping[int, Holder], size: int) -> tuple[tuple[AllocationAttribute, ...], tuple[int | None, ...]]:
    """(attributes, allocations): holders in order of their first address, and by ordinal the index of its holder."""
    indexes: dict[Holder, int] = {}
    for ordinal in sorted(ordinals):
        indexes.setdefault(ordinals[ordinal], len(indexes))
    allocations = tuple(indexes[ordinals[o]] if o in ordinals else None for o in range(size))
    attributes = tuple(AllocationAttribute(handle_id=h.handle, secondary=dict(h.attributes)) for h in indexes)
    return attributes, allocations
