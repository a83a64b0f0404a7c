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
from tortie.operator.world import Dirty, World

WRITES = Counter("tortie_operator_writes", "Objects written, by plural and verb", ["kind", "verb"])

Published = CompiledTier | CompiledPolicy | CompiledNetworkSet | NodePeer | NodeState
T = TypeVar("T", CompiledTier, CompiledPolicy, CompiledNetworkSet, NodePeer, NodeState)
S = TypeVar("S", bound=Stamp)


PEERS = "nodepeers"


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
        self.marks = dict.fromkeys((*STAMPED, PEERS), 0)
        """Plural → highest resourceVersion that the API server acknowledged."""
        self.recorded: Callable[[NodePeer | None, NodePeer | None], None] = lambda before, after: None
        """Called for every version of a NodePeer that is there now, with the one before it."""

    def adopt(self) -> None:
        """Begin the term with what is published. Raises Superseded."""
        for kind in self.marks:
            for obj in self._world.shelves[kind]:
                self._mark(kind, obj.metadata.version)
        for kind in (*self.marks, "nodestates"):
            for obj in self._world.shelves[kind]:
                self.check(obj.spec)

    def check(self, stamp: Stamp) -> None:
        if stamp.epoch > self.epoch:
            raise Superseded(f"an object of epoch {stamp.epoch} was met in epoch {self.epoch}")

    def _mark(self, kind: str, version: int) -> None:
        if kind in self.marks:
            self.marks[kind] = max(self.marks[kind], version)

    def stamped(self, spec: S, *, after_peers: bool = False) -> S:
        """`after_peers`: its reader must have seen the NodePeers, too."""
        kinds = (*STAMPED, PEERS) if after_peers else STAMPED
        after = {kind: mark for kind in kinds if (mark := self.marks[kind])}
        return msgspec.structs.replace(spec, epoch=self.epoch, after=after)

    async def write(self, resource: Resource, published: T | None, obj: T) -> T:
        """Create or replace; what was acknowledged is in the world. Conflict: what is there is in the world."""
        verb = "create" if published is None else "replace"
        await self._pace.take(len(self._world.nodes))
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
        self._mark(resource.plural, written.metadata.version)
        self._touched(self._world.put(resource.plural, written) - {Dirty("peer", obj.metadata.name)})
        if isinstance(written, NodePeer):
            assert published is None or isinstance(published, NodePeer)
            self.recorded(published, written)
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
        self._touched(self._world.remove(resource.plural, published.metadata.name))
        if isinstance(published, NodePeer):
            self.recorded(published, None)

    async def read(self, resource: Resource, record: type[T], name: str) -> None:
        """What is there now, into the world; a NodePeer's addresses count as given from then on. Raises Superseded."""
        before = self._world.shelves[resource.plural].get(name)
        try:
            found = await self._client.get(resource, name, type=record)
        except NotFound:
            self._touched(self._world.remove(resource.plural, name))
            found = None
        if found is not None:
            self.check(found.spec)
            self._touched(self._world.put(resource.plural, found))
        if record is NodePeer:
            self.recorded(before, found)  # type: ignore[arg-type]


def unstamped(spec: S) -> S:
    """What a spec says, without who wrote it when."""
    return msgspec.structs.replace(spec, epoch=0, after={})


def meta(name: str, published: Published | None) -> Metadata:
    """Metadata of the next version of what is published."""
    return Metadata(name=name, resource_version=published.metadata.resource_version if published else "")
