"""Kinds of high count, and our own: plain list and watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tortie.kube import resources
from tortie.kube.client import Client, NotFound, Resource
from tortie.kube.informer import Bookmark, Change, Gone, Informer, Put, Replaced
from tortie.operator.world import KINDS, POLICIES, Dirty, World

POLICY_RESOURCES: dict[str, Resource] = {
    "knp": resources.KUBERNETES_NETWORK_POLICY,
    "cnp": resources.CLUSTER_NETWORK_POLICY,
    "np": resources.NETWORK_POLICY,
    "gnp": resources.GLOBAL_NETWORK_POLICY,
    "snp": resources.STAGED_NETWORK_POLICY,
    "sgnp": resources.STAGED_GLOBAL_NETWORK_POLICY,
    "sknp": resources.STAGED_KUBERNETES_NETWORK_POLICY,
}
WATCHED: dict[str, Resource] = {
    **POLICY_RESOURCES,
    "pods": resources.POD,
    "namespaces": resources.NAMESPACE,
    "serviceaccounts": resources.SERVICE_ACCOUNT,
    "endpointslices": resources.ENDPOINT_SLICE,
    "blockaffinities": resources.BLOCK_AFFINITY,
    "ipamblocks": resources.IPAM_BLOCK,
    "nodepeers": resources.NODE_PEERS,
    "nodestates": resources.NODE_STATES,
    "compiledtiers": resources.COMPILED_TIERS,
    "compiledpolicies": resources.COMPILED_POLICIES,
    "compilednetworksets": resources.COMPILED_NETWORK_SETS,
    "policystatuses": resources.POLICY_STATUSES,
}
"""By what the world calls them."""
POLICY_SOURCES = ("namespaces", "serviceaccounts", *POLICIES)
"""While one of these watches is down, a new pod's first entry is held back (rule 9)."""
OPTIONAL = ("cnp",)
"""Kinds that a cluster may lack."""
ADOPTED = (
    *POLICY_SOURCES,
    "blockaffinities",
    "ipamblocks",
    "compiledtiers",
    "compiledpolicies",
    "compilednetworksets",
    "nodestates",
    "nodepeers",
)
"""What a new leader lists anew before it decides anything: what operators write, and what that is only deleted for
lack of. NodePeers come last, so that what they name is known."""


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
            kind: Informer(client, resource, KINDS[kind], listener=self._listener(kind), name=kind)
            for kind, resource in WATCHED.items()
        }

    def _listener(self, kind: str) -> Callable[[Change[Any]], None]:
        def take(change: Change[Any]) -> None:
            match change:
                case Put(_, obj, _):
                    self._touched(self._world.put(kind, obj, told=True))
                case Gone(key, _, version):
                    self._touched(self._world.gone(kind, key, version))
                case Replaced(_, _, True):
                    self._restored.set()
                case Replaced(objects, version, _):
                    self._touched(self._world.replace(kind, objects, version))
                case Bookmark():
                    pass

        return take

    def _known(self, kind: str) -> bool:
        informer = self.informers[kind]
        return informer.synced or (kind in OPTIONAL and informer.absent)

    @property
    def synced(self) -> bool:
        return all(self._known(kind) for kind in self.informers)

    @property
    def steady(self) -> bool:
        """Whether no change of what policies are made of can be unknown for longer than an event takes."""
        return all(
            self._known(kind) and (self.informers[kind].connected or self.informers[kind].absent)
            for kind in POLICY_SOURCES
        )

    async def run(self) -> None:
        """Watch for ever. Raises EtcdRestored."""
        async with asyncio.TaskGroup() as group:
            for kind, informer in self.informers.items():
                group.create_task(informer.run(), name=f"watch {kind}")
            await self._restored.wait()
            raise EtcdRestored

    async def adopt(self) -> None:
        """Fresh lists: our watches may lag behind the last words of the leader before. Raises ApiError."""
        for kind in ADOPTED:
            try:
                listing = await self._client.list(WATCHED[kind], type=KINDS[kind])
            except NotFound:
                if kind in OPTIONAL:
                    continue
                raise
            objects = {obj.metadata.key: obj for obj in listing.items}
            self._touched(self._world.replace(kind, objects, listing.version))
