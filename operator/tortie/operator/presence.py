"""What the world lacks is asked for before anything is taken from it.

An absent record has two meanings: gone, or not heard of yet. What another operator published may speak of Nodes and
pods that our watches have yet to tell us about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tortie.api.internal import Endpoint
from tortie.api.kubernetes import Node, Pod
from tortie.kube.client import Client, NotFound
from tortie.kube.resources import NODE, POD
from tortie.operator.world import Dirty, World


class Presence:
    def __init__(self, client: Client, world: World, touched: Callable[[Iterable[Dirty]], None]) -> None:
        self._client = client
        self._world = world
        self._touched = touched

    async def node(self, name: str) -> bool:
        """Whether a Node exists; then it is in the world. Raises ApiError."""
        if name in self._world.nodes:
            return True
        try:
            found = await self._client.get(NODE, name, type=Node)
        except NotFound:
            return name in self._world.nodes  # it may have come while we asked
        self._touched(self._world.put("nodes", found))
        return name in self._world.nodes

    async def pods(self, node: str) -> None:
        """Make sure that each entry of a NodePeer has its pod in the world, or is known to lack it. Raises ApiError."""
        if unaccounted := self._world.unaccounted(node):
            await asyncio.gather(*(self._pod(node, endpoint) for endpoint in unaccounted))

    async def _pod(self, node: str, endpoint: Endpoint) -> None:
        namespace, _, name = endpoint.name.partition("/")
        found = None
        try:
            found = await self._client.get(POD, name, namespace=namespace, type=Pod)
            self._touched(self._world.put("pods", found))
        except NotFound:
            pass
        if found is None or found.metadata.uid != endpoint.uid:
            self._world.depart(node, endpoint.uid)
