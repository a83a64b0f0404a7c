"""Kinds of high count, and our own: plain list and watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tortie.kube import resources
from tortie.kube.client import Client, Resource
from tortie.kube.informer import Bookmark, Change, Gone, Informer, Put, Replaced
from tortie.operator.world import KINDS, Dirty, World

WATCHED: dict[str, Resource] = {
    resource.plural: resource
    for resource in (
        resources.POD,
        resources.NAMESPACE,
        resources.SERVICE_ACCOUNT,
        resources.BLOCK_AFFINITY,
        resources.IPAM_BLOCK,
        resources.NODE_PEERS,
        resources.NODE_STATES,
        resources.COMPILED_POLICIES,
    )
}
PUBLISHED = ("blockaffinities", "ipamblocks", "compiledpolicies", "nodestates", "nodepeers")
"""What operators write: a new leader lists it anew before it decides anything."""
POLICY_SOURCES = ("namespaces", "serviceaccounts")
"""While one of these watches is down, a new pod's first entry is held back (rule 9)."""


class EtcdRestored(Exception):
    """A list is older than what was seen: all that is known may be of a past that was undone. Start over."""


class Informers:
    """All watches, feeding the world."""

    def __init__(self, client: Client, world: World, touched: Callable[[set[Dirty]], None]) -> None:
        self._client = client
        self._world = world
        self._touched = touched
        self._restored = asyncio.Event()
        self.informers: dict[str, Informer[Any]] = {
            plural: Informer(client, resource, KINDS[plural], listener=self._listener(plural), name=plural)
            for plural, resource in WATCHED.items()
        }

    def _listener(self, plural: str) -> Callable[[Change[Any]], None]:
        def take(change: Change[Any]) -> None:
            match change:
                case Put(_, obj, _):
                    self._touched(self._world.put(plural, obj))
                case Gone(key, _, version):
                    self._touched(self._world.gone(plural, key, version))
                case Replaced(_, _, True):
                    self._restored.set()
                case Replaced(objects, version, _):
                    self._touched(self._world.replace(plural, objects, version))
                case Bookmark():
                    pass

        return take

    @property
    def synced(self) -> bool:
        return all(informer.synced for informer in self.informers.values())

    @property
    def steady(self) -> bool:
        """Whether no change of what policies are made of can be unknown for longer than an event takes."""
        return all((i := self.informers[plural]).connected and i.synced for plural in POLICY_SOURCES)

    async def run(self) -> None:
        """Watch for ever. Raises EtcdRestored."""
        async with asyncio.TaskGroup() as group:
            for plural, informer in self.informers.items():
                group.create_task(informer.run(), name=f"watch {plural}")
            await self._restored.wait()
            raise EtcdRestored

    async def adopt(self) -> None:
        """What is published, from fresh lists: our watches may lag behind the last words of the leader before."""
        for plural in PUBLISHED:
            listing = await self._client.list(WATCHED[plural], type=KINDS[plural])
            objects = {obj.metadata.key: obj for obj in listing.items}
            self._touched(self._world.replace(plural, objects, listing.version))
