"""Writes of internal objects: stamped, paced, and never from a picture that is not the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from prometheus_client import Counter

from tortie.api.compiled import STAMPED, CompiledNetworkSet, CompiledPolicy, CompiledTier, Stamp
from tortie.api.internal import NodePeer, NodeState
from tortie.api.meta import Metadata
from tortie.kube.client import AlreadyExists, ApiError, Client, Conflict, NotFound, Resource
from tortie.operator.pace import Pace
from tortie.operator.world import Dirty, World, profiles

WRITES = Counter("tortie_operator_writes", "Objects written, by plural and verb", ["kind", "verb"])

Published = CompiledTier | CompiledPolicy | CompiledNetworkSet | NodePeer | NodeState
T = TypeVar("T", CompiledTier, CompiledPolicy, CompiledNetworkSet, NodePeer, NodeState)
S = TypeVar("S", bound=Stamp)


PEERS = "nodepeers"
STAMPED_BY_US = (*STAMPED, PEERS, "nodestates")


class Superseded(Exception):
    """An object was written by a newer leader: this one must not write any more."""


class Writer:
    """Of one leader's term. What the API server acknowledged is in the world when a call returns."""

    def __init__(self, client: Client, world: World, epoch: int, touched: Callable[[Iterable[Dirty]], None]) -> None:
        self._client = client
        self._world = world
        self.epoch = epoch
        self._touched = touched
        self._pace = Pace()
        self._sending: dict[str, NodePeer] = {}
        """NodePeers on their way, by name."""

    def adopt(self) -> None:
        """Begin the term with what is published. Raises Superseded: nothing of this term can have been written yet."""
        for obj in (obj for kind in STAMPED_BY_US for obj in self._world.shelves[kind]):
            if obj.spec.epoch >= self.epoch:
                raise Superseded(f"an object of epoch {obj.spec.epoch} was met at the beginning of epoch {self.epoch}")

    def check(self, stamp: Stamp) -> None:
        """Of every object that we are about to change. Raises Superseded."""
        if stamp.epoch > self.epoch:
            raise Superseded(f"an object of epoch {stamp.epoch} was met in epoch {self.epoch}")

    def stamped(self, spec: S, *, after_peers: bool = False) -> S:
        """With the marks of what is known to be there: what was acknowledged, also by a read after an answer was lost,
        and what a watch told of. `after_peers`: its reader must have seen the NodePeers, too."""
        kinds = (*STAMPED, PEERS) if after_peers else STAMPED
        after = {kind: mark for kind in kinds if (mark := self._world.shelves[kind].newest)}
        return msgspec.structs.replace(spec, epoch=self.epoch, after=after)

    async def write(self, resource: Resource, published: T | None, obj: T) -> T:
        """Create or replace; what was acknowledged is in the world. Conflict: what is there is in the world."""
        if isinstance(obj, NodePeer):
            self._sending[obj.metadata.name] = obj
        try:
            return await self._write(resource, published, obj)
        finally:
            if isinstance(obj, NodePeer):
                del self._sending[obj.metadata.name]

    def speaking_of(self, key: str) -> bool:
        """Whether a NodePeer on its way speaks of the profile (rule 6)."""
        return any(key in profiles(peer) for peer in self._sending.values())

    async def _write(self, resource: Resource, published: T | None, obj: T) -> T:
        verb = "create" if published is None else "replace"
        # Every node watches everything but NodeStates, of which each watches its own.
        await self._pace.take(1 if isinstance(obj, NodeState) else len(self._world.nodes))
        try:
            if published is None:
                written = await self._client.create(resource, obj, type=type(obj))
            else:
                written = await self._client.replace(resource, obj, type=type(obj))
        except (AlreadyExists, Conflict, NotFound) as error:
            await self.read(resource, type(obj), obj.metadata.name)
            raise Conflict(error.status, error.reason, error.message) from error
        except ApiError as error:
            if error.status == 0 or error.status >= 500:
                await self.read(resource, type(obj), obj.metadata.name)  # it may have been written all the same
            raise
        WRITES.labels(resource.plural, verb).inc()
        self._touched(self._world.put(resource.plural, written) - {Dirty("peer", obj.metadata.name)})
        return written

    async def delete(self, resource: Resource, published: T) -> None:
        """Conflict: what is there is in the world."""
        try:
            await self._client.delete(
                resource,
                published.metadata.name,
                uid=published.metadata.uid,
                version=published.metadata.resource_version,
            )
        except NotFound:
            pass
        except Conflict:
            await self.read(resource, type(published), published.metadata.name)
            raise
        WRITES.labels(resource.plural, "delete").inc()
        self._touched(self._world.remove(resource.plural, published))

    async def read(self, resource: Resource, record: type[T], name: str) -> None:
        """What is there now, into the world. Raises Superseded."""
        known = self._world.shelves[resource.plural].get(name)
        try:
            found = await self._client.get(resource, name, type=record)
        except NotFound:
            self._touched(self._world.remove(resource.plural, known))
            return
        self.check(found.spec)
        self._touched(self._world.put(resource.plural, found))


def unstamped(spec: S) -> S:
    """What a spec says, without who wrote it when."""
    return msgspec.structs.replace(spec, epoch=0, after={})


def meta(name: str, published: Published | None) -> Metadata:
    """Metadata of the next version of what is published."""
    return Metadata(name=name, resource_version=published.metadata.resource_version if published else "")
