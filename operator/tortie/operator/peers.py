"""NodePeers: who is admitted to one, what addresses they get, and when it is written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from tortie.api.internal import NodePeer, NodePeerSpec
from tortie.api.kubernetes import Namespace, Pod
from tortie.kube.client import ApiError
from tortie.kube.resources import NODE_PEERS
from tortie.operator.blocks import Blocks
from tortie.operator.compile import peers
from tortie.operator.ipam.assignment import Assigner, Assignment, Ground
from tortie.operator.ipam.candidates import BLOCKS_PER_HOST
from tortie.operator.status import Reports
from tortie.operator.world import Dirty, World
from tortie.operator.writer import Writer, meta, unstamped

log = logging.getLogger(__name__)

HELD_BACK = 0.05
"""Seconds that a pod's first entry waits after its event: a policy created before the pod gets ahead of it (rule 9)."""
LOOK_AGAIN = 2.0
"""Seconds after which a node whose pods got no address is looked at again: others may have given some back."""
EVERY = 0.1
"""Seconds between two writes of one NodePeer."""
CLAIM_AGAIN = 0.5
"""Seconds between a claim that failed and the next."""


class Peers:
    def __init__(
        self,
        world: World,
        writer: Writer,
        blocks: Blocks,
        reports: Reports,
        steady: Callable[[], bool],
        keys: Callable[[], frozenset[str]],
        later: Callable[[Dirty, float], None],
    ) -> None:
        """`steady`: whether all watches that policies come from are open and synced. `keys`: label keys to carry that
        are left out by default. `later(dirty, at)`: look again."""
        self._world = world
        self._writer = writer
        self._blocks = blocks
        self._reports = reports
        self._steady = steady
        self._keys = keys
        self._later = later
        self._written: dict[str, float] = {}
        self._carrying: dict[str, frozenset[str]] = {}
        """Label keys, left out by default, that each published NodePeer has where its pods have them."""
        self._claims: dict[tuple[str, str], asyncio.Task[None]] = {}
        """(node, pool) → its claim in progress."""
        self.arrived: dict[str, dict[str, float]] = {}
        """By node: UID of each pod that is scheduled and has no entry yet → since when (monotonic seconds)."""

    def close(self) -> None:
        for task in self._claims.values():
            task.cancel()

    def carry(self, keys: frozenset[str]) -> bool:
        """Whether every published NodePeer has these label keys where its pods have them."""
        return not keys or all(keys <= self._carrying.get(n.metadata.name, frozenset()) for n in self._world.nodes)

    async def publish(self, name: str) -> None:
        """Bring a node's NodePeer up to the world. Raises ApiError."""
        node, published = self._world.nodes.get(name), self._world.peers.get(name)
        if node is None:
            if published is not None:
                await self._writer.delete(NODE_PEERS, published)
            self.arrived.pop(name, None)
            self._carrying.pop(name, None)
            return
        now = time.monotonic()
        if (soonest := self._written.get(name, 0.0) + EVERY) > now:
            self._later(Dirty("peer", name), soonest)
            return
        previous = NodePeerSpec()
        if published is not None and published.spec.uid == node.metadata.uid:
            previous = published.spec
        pods = self._admitted(name, previous, now)
        assigned = self._assigned(name, node.metadata.labels, previous, pods, now)
        keys = self._keys()
        spec = peers.peer(node, pods, assigned, self._world.owned(name), keys)
        fence = (
            bool(self._world.releasing(name)) and published is not None and published.spec.epoch != self._writer.epoch
        )
        if published is None or unstamped(published.spec) != spec or fence:
            self._written[name] = now
            peer = NodePeer(metadata=meta(name, published), spec=self._writer.stamped(spec))
            await self._writer.write(NODE_PEERS, published, peer)
            await self._reports.unserved(spec, previous)
        self._carrying[name] = keys
        waiting = self.arrived.get(name, {})
        for endpoint in spec.endpoints:
            waiting.pop(endpoint.uid, None)
        if any(endpoint.error for endpoint in spec.endpoints):
            self._later(Dirty("peer", name), now + LOOK_AGAIN)

    def _admitted(self, name: str, previous: NodePeerSpec, now: float) -> list[Pod]:
        """Pods that may have an entry: those that have one, and those that have been held back long enough."""
        known = {endpoint.uid for endpoint in previous.endpoints}
        pods = self._world.pods_of(name)
        before = self.arrived.get(name, {})
        waiting = {uid: before.get(uid, now) for pod in pods if (uid := pod.metadata.uid) not in known}
        self.arrived[name] = waiting
        steady = self._steady()
        admitted = []
        for pod in pods:
            since = waiting.get(pod.metadata.uid)
            if since is None or (
                steady and now >= since + HELD_BACK and pod.metadata.namespace in self._world.namespaces
            ):
                admitted.append(pod)
            else:
                self._later(Dirty("peer", name), since + HELD_BACK if now < since + HELD_BACK else now + HELD_BACK)
        return admitted

    def _assigned(
        self, name: str, labels: dict[str, str], previous: NodePeerSpec, pods: list[Pod], now: float
    ) -> Assignment:
        ipam = self._world.ipam
        ground = Ground(
            node_labels=labels,
            pools=list(self._world.pools),
            blocks=self._blocks.of(name),
            previous=previous,
            namespaces={ns.metadata.name: ns.metadata.labels for ns in self._namespaces(pods)},
            exhausted=self._blocks.exhausted,
            reserved=self._world.reserved,
            most_blocks=ipam.max_blocks_per_host or BLOCKS_PER_HOST,
            claiming=ipam.auto_allocate_blocks,
            idle_since=now - ipam.ip_cooldown_seconds,
        )
        assigned = Assigner(ground).run(pods)
        for pool in assigned.wants.values():
            self._claim(name, pool.metadata.name)
        return assigned

    def _namespaces(self, pods: Iterable[Pod]) -> Iterable[Namespace]:
        found = (self._world.namespaces.get(name) for name in {pod.metadata.namespace for pod in pods})
        return (namespace for namespace in found if namespace is not None)

    def _claim(self, node: str, pool: str) -> None:
        """One claim at a time of a node in a pool, beside the turns: no other node waits for it."""
        if (node, pool) in self._claims:
            return

        async def claim() -> None:
            found = self._world.pools.get(pool)
            try:
                if found is not None:
                    await self._blocks.claim(node, found)
            except ApiError as error:
                log.warning("claim failed", extra={"node": node, "pool": pool, "error": str(error)})
                await asyncio.sleep(CLAIM_AGAIN)
            finally:
                del self._claims[node, pool]
                self._later(Dirty("peer", node), 0.0)

        self._claims[node, pool] = asyncio.create_task(claim())
