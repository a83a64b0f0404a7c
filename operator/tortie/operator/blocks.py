"""Blocks of addresses, claimed and given back, as objects that Calico's tools know.

A claim is BlockAffinity `pending` → IPAMBlock, whose name is its CIDR, so that of two claims the second fails →
affinity `confirmed`; then the NodePeer names the block. Giving back begins when the NodePeer does not name it any
more (`holdings`): affinity `pendingDeletion` → the node's agent confirms that nothing uses it → IPAMBlock and affinity
deleted. Whatever step an operator ended at, the next one goes on from what it finds; what has no beginning (a block
without an affinity, a NodePeer that names one without) gets one, and then takes the same way.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from tortie.api.calico import BlockAffinity, BlockAffinitySpec, IPAMBlock, IPAMBlockSpec, IPPool
from tortie.api.meta import Metadata
from tortie.kube.client import AlreadyExists, ApiError, Client, Conflict, NotFound
from tortie.kube.resources import BLOCK_AFFINITY, IPAM_BLOCK
from tortie.operator.holdings import Holdings
from tortie.operator.ipam.candidates import candidates
from tortie.operator.ipam.names import affinity_name, object_name
from tortie.operator.ipam.pools import version, within
from tortie.operator.ipam.reuse import Reuse
from tortie.operator.orders import Orders, addresses
from tortie.operator.presence import Presence
from tortie.operator.world import Dirty, World, block_owner

log = logging.getLogger(__name__)

CLAIM_TRIES = 64
AGAIN = "tortie.io/confirmed-after"
"""Annotation of an affinity that was confirmed once more: the version before. It makes the write a change."""


class Blocks:
    """Written by the leader alone."""

    def __init__(
        self,
        client: Client,
        world: World,
        epoch: int,
        holdings: Holdings,
        orders: Orders,
        presence: Presence,
        touched: Callable[[Iterable[Dirty]], None],
    ) -> None:
        self._client = client
        self._world = world
        self._epoch = epoch
        self._holdings = holdings
        self._orders = orders
        self._presence = presence
        self._touched = touched
        self._begun: set[tuple[str, str]] = set()
        """(node, block) that is being claimed just now."""

    def usable(self, node: str) -> dict[str, Reuse]:
        """Blocks that addresses may be taken from, with the order of their free ones."""
        return {cidr: self._orders.of(node, cidr) for cidr in self._holdings.usable(node)}

    # --- claims ---------------------------------------------------------------------------------------------------

    async def claim(self, node: str, pool: IPPool) -> bool:
        """Claim a block of `pool`; False: it has none left. Raises ApiError."""
        blocks = {block.spec.cidr for block in self._world.blocks}
        begun = {cidr for _, cidr in self._begun}
        taken = blocks | begun | {affinity.spec.cidr for affinity in self._world.affinities}
        for tries, cidr in enumerate(candidates(pool, node, taken, self._world.reserved)):
            if tries == CLAIM_TRIES:
                break
            if await self._begin(node, cidr):
                log.info("block is claimed", extra={"node": node, "block": cidr})
                return True
        else:
            return False
        raise ApiError(0, "Busy", f"{CLAIM_TRIES} blocks of pool {pool.metadata.name} were claimed by others meanwhile")

    async def _begin(self, node: str, cidr: str) -> bool:
        self._begun.add((node, cidr))
        try:
            affinity = await self._affinity(node, cidr)
            if affinity.spec.node != node or affinity.spec.state not in ("pending", ""):
                return False  # news of it was on its way
            return await self._finish(affinity)
        finally:
            self._begun.discard((node, cidr))
            self._touched([Dirty("blocks", node), Dirty("room", "")])  # it may have got stuck, or the block be left

    async def _affinity(self, node: str, cidr: str) -> BlockAffinity:
        """The affinity of a node to a block: a pending one is made if there is none."""
        labels = {"projectcalico.org/affinity-type": "host", "projectcalico.org/ip-version": str(version(cidr))}
        affinity = BlockAffinity(
            metadata=Metadata(name=affinity_name(node, cidr), labels=labels),
            spec=BlockAffinitySpec(state="pending", node=node, cidr=cidr),
        )
        try:
            affinity = await self._client.create(BLOCK_AFFINITY, affinity, type=BlockAffinity)
        except AlreadyExists:
            affinity = await self._client.get(BLOCK_AFFINITY, affinity.metadata.name, type=BlockAffinity)
        self._touched(self._world.put("blockaffinities", affinity))
        return affinity

    async def _block(self, node: str, cidr: str) -> IPAMBlock:
        """The object of a block: made for the node if there is none."""
        try:
            block = await self._client.create(IPAM_BLOCK, empty_block(node, cidr), type=IPAMBlock)
        except AlreadyExists:
            block = await self._client.get(IPAM_BLOCK, object_name(cidr), type=IPAMBlock)
        self._touched(self._world.put("ipamblocks", block))
        return block

    async def _finish(self, affinity: BlockAffinity) -> bool:
        """To `confirmed` (once more, if it is already), or to nothing if the block is someone else's."""
        node, cidr = affinity.spec.node, affinity.spec.cidr
        known = self._holdings.known(node)
        block = await self._block(node, cidr)
        if block_owner(block) != node:
            await self._delete_affinity(affinity)
            return False
        await self._move(affinity, "confirmed")
        self._holdings.confirmed(node, cidr, known)
        self._touched([Dirty("peer", node)])
        return True

    async def _move(self, affinity: BlockAffinity, state: str) -> None:
        """Conflict: what is there is in the world."""
        metadata = affinity.metadata
        if affinity.spec.state == state:
            annotations = {**metadata.annotations, AGAIN: metadata.resource_version}
            metadata = msgspec.structs.replace(metadata, annotations=annotations)
        spec = msgspec.structs.replace(affinity.spec, state=state)
        moved = msgspec.structs.replace(affinity, metadata=metadata, spec=spec)
        try:
            written = await self._client.replace(BLOCK_AFFINITY, moved, type=BlockAffinity)
        except (Conflict, NotFound):
            await self._read_affinity(affinity)
            raise
        self._touched(self._world.put("blockaffinities", written))

    async def _read_affinity(self, affinity: BlockAffinity) -> BlockAffinity | None:
        """As it is now, also in the world; None: gone."""
        known = self._world.affinities.get(affinity.metadata.name)
        try:
            found = await self._client.get(BLOCK_AFFINITY, affinity.metadata.name, type=BlockAffinity)
        except NotFound:
            self._touched(self._world.remove("blockaffinities", known))
            return None
        self._touched(self._world.put("blockaffinities", found))
        return found

    async def _delete_affinity(self, affinity: BlockAffinity) -> None:
        metadata = affinity.metadata
        try:
            await self._client.delete(
                BLOCK_AFFINITY, metadata.name, uid=metadata.uid, version=metadata.resource_version
            )
        except NotFound:
            pass
        except Conflict:
            await self._read_affinity(affinity)
            raise
        self._touched(self._world.remove("blockaffinities", affinity))

    # --- care -----------------------------------------------------------------------------------------------------

    async def tend(self, node: str) -> None:
        """Take every block of a node one step further. Raises ApiError."""
        if node not in self._world.peers and await self._presence.node(node):
            return  # its NodePeer is about to be made; nothing can enter it before
        if not (self._world.affinities_of(node) or self._world.blocks_of(node) or self._holdings.named(node)):
            return
        exists = await self._presence.node(node)
        known = {affinity.spec.cidr for affinity in self._world.affinities_of(node)}
        owned = {block.spec.cidr for block in self._world.blocks_of(node)}
        for cidr in sorted((owned | {*self._holdings.named(node)}) - known):
            if (node, cidr) not in self._begun:
                await self._affinity(node, cidr)
        for affinity in self._world.affinities_of(node):
            if (node, affinity.spec.cidr) not in self._begun:
                await self._step(affinity, exists)

    async def _step(self, affinity: BlockAffinity, exists: bool) -> None:
        node, cidr = affinity.spec.node, affinity.spec.cidr
        named = cidr in self._holdings.named(node)
        if affinity.spec.state == "pendingDeletion":
            if self._unused(node, cidr, exists):
                await self._give_back(affinity)
        elif affinity.spec.state != "confirmed":
            if exists or named:
                await self._finish(affinity)
            else:
                await self._move(affinity, "pendingDeletion")
        elif (left := self._holdings.left(node, cidr)) is not None:
            await self._leave(left)
        elif self._holdings.waits(affinity):
            await self._finish(affinity)
        elif object_name(cidr) not in self._world.blocks:
            await self._block(node, cidr)

    async def _leave(self, affinity: BlockAffinity) -> None:
        """Its NodePeer does not name it any more: the first step back."""
        node, cidr = affinity.spec.node, affinity.spec.cidr
        try:
            await self._move(affinity, "pendingDeletion")
        except (Conflict, NotFound):
            self._holdings.done(node, cidr)
            raise
        self._holdings.done(node, cidr)
        log.info("block is being given back", extra={"node": node, "block": cidr})

    def _unused(self, node: str, cidr: str, exists: bool) -> bool:
        """Whether the agent said so, of the NodeState that we wrote after the NodePeer; or there is no agent."""
        peer, state = self._world.peers.get(node), self._world.states.get(node)
        if cidr in self._holdings.named(node) or any(within(address, cidr) for address in addresses(peer)):
            return False
        if not exists:
            return True
        return (
            state is not None
            and state.spec.epoch == self._epoch
            and cidr in state.spec.releasing
            and state.status.generation == state.metadata.generation
            and cidr in state.status.released
        )

    async def _give_back(self, affinity: BlockAffinity) -> None:
        """The block first, while its affinity still keeps others from claiming it. What we know may be of an earlier
        life of the block: so first the block is read, then the affinity, and only what was read is deleted."""
        node, cidr = affinity.spec.node, affinity.spec.cidr
        name = object_name(cidr)
        known = self._world.blocks.get(name)
        try:
            block = await self._client.get(IPAM_BLOCK, name, type=IPAMBlock)
        except NotFound:
            block = None
            self._touched(self._world.remove("ipamblocks", known))
        current = await self._read_affinity(affinity)
        if current is None or current.metadata.uid != affinity.metadata.uid:
            return
        if block is not None and block_owner(block) == node:
            uid, resource_version = block.metadata.uid, block.metadata.resource_version
            with contextlib.suppress(NotFound):
                await self._client.delete(IPAM_BLOCK, name, uid=uid, version=resource_version)
            self._touched(self._world.remove("ipamblocks", block))
        self._orders.forget(cidr)
        await self._delete_affinity(current)
        log.info("block is given back", extra={"node": node, "block": cidr})


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
