"""Blocks of addresses: claimed, given back and mirrored, as objects that Calico's tools know.

A claim is BlockAffinity `pending` → IPAMBlock, whose name is its CIDR, so that of two claims the second fails →
affinity `confirmed`. Giving back is affinity `pendingDeletion` → the node's agent confirms that nothing uses it →
IPAMBlock and affinity deleted. Whatever step an operator ended at, the next one goes on from what it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from tortie.api.calico import BlockAffinity, BlockAffinitySpec, IPAMBlock, IPAMBlockSpec, IPPool
from tortie.api.internal import NodePeer, NodePeerSpec
from tortie.api.meta import Metadata
from tortie.kube.client import AlreadyExists, ApiError, Client, Conflict, NotFound
from tortie.kube.resources import BLOCK_AFFINITY, IPAM_BLOCK
from tortie.operator.ipam.candidates import ahead, candidates, surplus
from tortie.operator.ipam.mirror import holders, mirrored
from tortie.operator.ipam.pools import WORKLOAD, giving, pool_of, version, within
from tortie.operator.ipam.reuse import Reuse
from tortie.operator.world import Dirty, World, block_owner

log = logging.getLogger(__name__)

MIRROR_EVERY = 10.0
"""Seconds between two writes of one IPAMBlock that only mirror."""
CLAIM_TRIES = 64


def object_name(cidr: str) -> str:
    """Name of an IPAMBlock: its CIDR with `-` for what a name must not have (Calico)."""
    return cidr.replace(".", "-").replace(":", "-").replace("/", "-")


def affinity_name(node: str, cidr: str) -> str:
    return f"{node}-{object_name(cidr)}"


def addresses(peer: NodePeerSpec | None) -> set[str]:
    """All that a NodePeer records as given."""
    if peer is None:
        return set()
    tunnels = {peer.tunnels.vxlan4, peer.tunnels.vxlan6} - {""}
    return tunnels | {address for endpoint in peer.endpoints for address in endpoint.addresses}


class Blocks:
    """Written by the leader alone."""

    def __init__(self, client: Client, world: World, epoch: int, touched: Callable[[Iterable[Dirty]], None]) -> None:
        self._client = client
        self._world = world
        self._epoch = epoch
        self._touched = touched
        self._orders: dict[str, Reuse] = {}
        self._mirror: dict[str, float] = {}
        """CIDR → when it is to be mirrored (monotonic seconds)."""
        self._mirrored: dict[str, float] = {}
        self._exhausted: dict[str, tuple[int, tuple[str, ...]]] = {}
        """Pool name → how many blocks there were, and what was reserved, when none was left."""

    # --- views ----------------------------------------------------------------------------------------------------

    def of(self, node: str) -> dict[str, Reuse]:
        """The node's own blocks with the order of their free addresses."""
        return {cidr: self._order(node, cidr) for cidr in self._world.owned(node)}

    def _order(self, node: str, cidr: str) -> Reuse:
        order = self._orders.get(cidr)
        if order is None:
            block = self._world.blocks.get(object_name(cidr))
            order = self._orders[cidr] = Reuse(cidr, block.spec.unallocated if block else ())
            peer = self._world.peers.get(node)
            for address in addresses(peer.spec if peer else None):
                order.taken(address)
        return order

    @property
    def exhausted(self) -> frozenset[str]:
        """Names of pools without a free block, as far as nothing has changed since that was found."""
        blocks, reserved = len(self._world.blocks), self._world.reserved
        return frozenset(
            name for name, (count, then) in self._exhausted.items() if blocks >= count and reserved == then
        )

    def recorded(self, before: NodePeer | None, after: NodePeer | None) -> None:
        """A NodePeer was acknowledged: what it took and what it released, for the order and the mirror."""
        now = time.monotonic()
        old, new = addresses(before.spec if before else None), addresses(after.spec if after else None)
        known = after or before
        node = known.metadata.name if known else ""
        for cidr in [a.spec.cidr for a in self._world.affinities_of(node)]:
            order = self._order(node, cidr)
            inside = [address for address in old ^ new if order.ordinal(address) is not None]
            for address in inside:
                if address in new:
                    order.taken(address)
                else:
                    order.released(address, now)
            if inside:
                self.mirror(cidr)

    # --- claims ---------------------------------------------------------------------------------------------------

    async def claim(self, node: str, pool: IPPool) -> None:
        """Claim a block of `pool`; when there is none, remember that. Raises ApiError."""
        name = pool.metadata.name
        taken = {block.spec.cidr for block in self._world.blocks} | {a.spec.cidr for a in self._world.affinities}
        for tries, cidr in enumerate(candidates(pool, node, taken, self._world.reserved)):
            if tries == CLAIM_TRIES:
                raise ApiError(0, "Busy", f"{CLAIM_TRIES} blocks of pool {name} were claimed by others meanwhile")
            if await self._begin(node, cidr):
                self._exhausted.pop(name, None)
                return
        log.warning("pool has no free block", extra={"pool": name, "cidr": pool.spec.cidr, "node": node})
        self._exhausted[name] = len(self._world.blocks), self._world.reserved
        self._touched([Dirty("peer", node)])

    async def _begin(self, node: str, cidr: str) -> bool:
        labels = {
            "projectcalico.org/affinity-type": "host",
            "projectcalico.org/ip-version": str(version(cidr)),
        }
        affinity = BlockAffinity(
            metadata=Metadata(name=affinity_name(node, cidr), labels=labels),
            spec=BlockAffinitySpec(state="pending", node=node, cidr=cidr),
        )
        try:
            affinity = await self._client.create(BLOCK_AFFINITY, affinity, type=BlockAffinity)
        except AlreadyExists:
            affinity = await self._client.get(BLOCK_AFFINITY, affinity.metadata.name, type=BlockAffinity)
        self._touched(self._world.put("blockaffinities", affinity))
        return await self._finish(affinity)

    async def _finish(self, affinity: BlockAffinity) -> bool:
        """From `pending` to `confirmed`, or to nothing if the block is someone else's."""
        node, cidr = affinity.spec.node, affinity.spec.cidr
        try:
            block = await self._client.create(IPAM_BLOCK, empty_block(node, cidr), type=IPAMBlock)
        except AlreadyExists:
            block = await self._client.get(IPAM_BLOCK, object_name(cidr), type=IPAMBlock)
        self._touched(self._world.put("ipamblocks", block))
        if block_owner(block) != node:
            await self._delete_affinity(affinity)
            return False
        await self._move(affinity, "confirmed")
        log.info("block is claimed", extra={"node": node, "block": cidr})
        return True

    async def _move(self, affinity: BlockAffinity, state: str) -> None:
        spec = msgspec.structs.replace(affinity.spec, state=state)
        moved = msgspec.structs.replace(affinity, spec=spec)
        self._touched(
            self._world.put("blockaffinities", await self._client.replace(BLOCK_AFFINITY, moved, type=BlockAffinity))
        )

    async def _delete_affinity(self, affinity: BlockAffinity) -> None:
        with contextlib.suppress(NotFound):
            await self._client.delete(BLOCK_AFFINITY, affinity.metadata.name, uid=affinity.metadata.uid)
        self._touched(self._world.remove("blockaffinities", affinity.metadata.name))

    # --- care -----------------------------------------------------------------------------------------------------

    async def tend(self, node: str) -> None:
        """Finish what was begun and give back what is not needed. Raises ApiError."""
        exists = node in self._world.nodes
        for affinity in self._world.affinities_of(node):
            if affinity.spec.state in ("pending", "") and exists:
                await self._finish(affinity)
            elif affinity.spec.state == "pendingDeletion":
                await self._give_back(affinity)
        given = self._surplus(node) if exists else self._world.owned(node)
        for affinity in self._world.affinities_of(node):
            if (affinity.spec.cidr in given or not exists) and affinity.spec.state != "pendingDeletion":
                log.info("block is being given back", extra={"node": node, "block": affinity.spec.cidr})
                await self._move(affinity, "pendingDeletion")

    def _surplus(self, node: str) -> list[str]:
        found = self._world.nodes.get(node)
        assert found is not None
        pools = giving(self._world.pools, WORKLOAD, found.metadata.labels)
        orders = self.of(node)
        given: list[str] = []
        for family in (4, 6):
            free = {cidr: len(order) for cidr, order in orders.items() if version(cidr) == family}
            sizes = {cidr: orders[cidr].size for cidr in free}
            unwanted = {cidr for cidr in free if pool_of(cidr, pools) is None}
            keep = max((ahead(p) for p in pools if version(p.spec.cidr) == family), default=0)
            given += surplus(free, sizes, keep, unwanted)
        return given

    async def _give_back(self, affinity: BlockAffinity) -> None:
        """Once nothing speaks of the block any more: no NodePeer, and no endpoint on its node."""
        node, cidr = affinity.spec.node, affinity.spec.cidr
        if not self._confirmed(node, cidr):
            return
        name = object_name(cidr)
        block = self._world.blocks.get(name)
        if block is not None and block_owner(block) == node:
            try:
                await self._client.delete(
                    IPAM_BLOCK, name, uid=block.metadata.uid, version=block.metadata.resource_version
                )
            except NotFound:
                pass
            except Conflict:
                self._touched(self._world.put("ipamblocks", await self._client.get(IPAM_BLOCK, name, type=IPAMBlock)))
                raise
            self._touched(self._world.remove("ipamblocks", name))
        self._orders.pop(cidr, None)
        await self._delete_affinity(affinity)
        log.info("block is given back", extra={"node": node, "block": cidr})

    def _confirmed(self, node: str, cidr: str) -> bool:
        peer, state = self._world.peers.get(node), self._world.states.get(node)
        if peer is not None and (cidr in peer.spec.blocks or any(within(a, cidr) for a in addresses(peer.spec))):
            return False
        if peer is not None and peer.spec.epoch != self._epoch:
            return False  # a leader before us may still be about to write it; once we have, that conflicts
        if node not in self._world.nodes:
            return peer is None
        return (
            state is not None
            and cidr in state.spec.releasing
            and state.status.generation >= state.metadata.generation
            and cidr in state.status.released
        )

    # --- mirror ---------------------------------------------------------------------------------------------------

    def mirror(self, cidr: str) -> None:
        """The block's object is to tell of its addresses, soon."""
        now = time.monotonic()
        self._mirror.setdefault(cidr, max(now + 1.0, self._mirrored.get(cidr, 0.0) + MIRROR_EVERY))

    async def run_mirror(self) -> None:
        """Write due mirrors, for ever."""
        for block in self._world.blocks:
            if node := block_owner(block):
                self._order(node, block.spec.cidr)
                self.mirror(block.spec.cidr)
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for cidr in [cidr for cidr, due in self._mirror.items() if due <= now]:
                del self._mirror[cidr]
                self._mirrored[cidr] = now
                try:
                    await self._write_mirror(cidr)
                except ApiError as error:
                    log.warning("mirroring failed", extra={"block": cidr, "error": str(error)})
                    self.mirror(cidr)

    async def _write_mirror(self, cidr: str) -> None:
        name = object_name(cidr)
        block = self._world.blocks.get(name)
        order = self._orders.get(cidr)
        if block is None or order is None:
            return
        node = block_owner(block)
        peer = self._world.peers.get(node)
        spec = mirrored(block.spec, holders(node, peer.spec) if peer else {}, order)
        if spec is block.spec:
            return
        try:
            written = await self._client.replace(IPAM_BLOCK, msgspec.structs.replace(block, spec=spec), type=IPAMBlock)
        except Conflict:
            written = await self._client.get(IPAM_BLOCK, name, type=IPAMBlock)
            self.mirror(cidr)
        self._world.put("ipamblocks", written)


def empty_block(node: str, cidr: str) -> IPAMBlock:
    size = Reuse(cidr).size
    return IPAMBlock(
        metadata=Metadata(name=object_name(cidr)),
        spec=IPAMBlockSpec(
            cidr=cidr,
            affinity=f"host:{node}",
            affinity_claim_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            allocations=(None,) * size,
            unallocated=tuple(range(size)),
            attributes=(),
            strict_affinity=False,
        ),
    )
