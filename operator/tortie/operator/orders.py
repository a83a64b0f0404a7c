"""The order in which each block's free addresses are given out, kept up with what NodePeers record."""

from __future__ import annotations

import time

from tortie.api.internal import NodePeer
from tortie.operator.ipam.names import object_name
from tortie.operator.ipam.reuse import Reuse
from tortie.operator.world import World


def addresses(peer: NodePeer | None) -> set[str]:
    """All that a NodePeer records as given."""
    if peer is None:
        return set()
    tunnels = {peer.spec.tunnels.vxlan4, peer.spec.tunnels.vxlan6} - {""}
    return tunnels | {address for endpoint in peer.spec.endpoints for address in endpoint.addresses}


class Orders:
    def __init__(self, world: World) -> None:
        self._world = world
        self._orders: dict[str, tuple[str, Reuse]] = {}
        """CIDR → UID of the IPAMBlock, and the order."""
        self._counted: dict[str, NodePeer] = {}
        """Node → the version of its NodePeer that the orders have taken in."""
        self.changed: set[str] = set()
        """Blocks whose addresses have changed, for the mirror to take out."""

    def of(self, node: str, cidr: str) -> Reuse:
        """The order of a block that is the node's."""
        self.count(node)
        block = self._world.blocks.get(object_name(cidr))
        now = block.metadata.uid if block else ""
        uid, order = self._orders.get(cidr, ("", None))
        if order is None or (uid and now and uid != now):
            order = Reuse(cidr, block.spec.unallocated if block else ())
            for address in addresses(self._world.peers.get(node)):
                order.taken(address)
            self.changed.add(cidr)
        self._orders[cidr] = now or uid, order
        return order

    def forget(self, cidr: str) -> None:
        """The block is gone."""
        self._orders.pop(cidr, None)

    def count(self, node: str) -> None:
        """Take in what was given and released since the last version."""
        before, after = self._counted.pop(node, None), self._world.peers.get(node)
        if after is not None:
            self._counted[node] = after
        if before is after:
            return
        now = time.monotonic()
        old, new = addresses(before), addresses(after)
        mine = {affinity.spec.cidr for affinity in self._world.affinities_of(node)}
        for cidr, order in [(cidr, self._orders[cidr][1]) for cidr in sorted(mine & self._orders.keys())]:
            for address in sorted(old ^ new):
                if order.ordinal(address) is None:
                    continue
                self.changed.add(cidr)
                if address in new:
                    order.taken(address)
                else:
                    order.released(address, now)
