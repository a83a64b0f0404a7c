"""IPAMBlocks tell what NodePeers record, within seconds: for `calicoctl ipam`, and for the next leader's orders."""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from tortie.api.calico import IPAMBlock
from tortie.kube.client import ApiError, Client, Conflict, NotFound
from tortie.kube.resources import IPAM_BLOCK
from tortie.operator.ipam.mirror import holders, mirrored
from tortie.operator.ipam.names import object_name
from tortie.operator.orders import Orders
from tortie.operator.world import World, block_owner

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two writes of one IPAMBlock that only mirror."""
LOOK = 1.0


class Mirroring:
    def __init__(self, client: Client, world: World, orders: Orders) -> None:
        self._client = client
        self._world = world
        self._orders = orders
        self._due: dict[str, float] = {}
        """CIDR → when its object is to be looked at (monotonic seconds)."""
        self._done: dict[str, tuple[float, IPAMBlock]] = {}
        """CIDR → when it was last looked at, and the object that told the truth then."""

    def _schedule(self) -> None:
        """What NodePeers have changed, and what somebody else has."""
        now = time.monotonic()
        for peer in self._world.peers:
            self._orders.count(peer.metadata.name)
        changed, self._orders.changed = self._orders.changed, set()
        for block in self._world.blocks:
            cidr = block.spec.cidr
            looked, told = self._done.get(cidr, (now - EVERY, None))
            if (cidr in changed or block is not told) and block_owner(block):
                self._due.setdefault(cidr, looked + EVERY)
        if len(self._done) > len(self._world.blocks):
            there = {block.spec.cidr for block in self._world.blocks}
            self._done = {cidr: done for cidr, done in self._done.items() if cidr in there}

    async def run(self) -> None:
        """Write due mirrors, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            self._schedule()
            now = time.monotonic()
            for cidr in [cidr for cidr, due in self._due.items() if due <= now]:
                del self._due[cidr]
                try:
                    await self._write(cidr)
                except ApiError as error:
                    log.warning("mirroring failed", extra={"block": cidr, "error": str(error)})
                await asyncio.sleep(0)

    async def _write(self, cidr: str) -> None:
        self._done.pop(cidr, None)  # what fails is looked at again
        block = self._world.blocks.get(object_name(cidr))
        if block is None:
            return
        node = block_owner(block)
        peer = self._world.peers.get(node)
        spec = mirrored(block.spec, holders(node, peer.spec) if peer else {}, self._orders.of(node, cidr))
        if spec is not block.spec:
            replaced = msgspec.structs.replace(block, spec=spec)
            try:
                block = await self._client.replace(IPAM_BLOCK, replaced, type=IPAMBlock)
            except (Conflict, NotFound):
                return  # news of it is on its way
            self._world.put("ipamblocks", block)
        self._done[cidr] = time.monotonic(), block
