"""NodePeers: who is admitted to one, what addresses they get, and when it is written."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable

from tortie.api.calico import BlockAffinity, IPPool
from tortie.api.internal import NodePeer, NodePeerSpec
from tortie.api.kubernetes import Namespace, Node, NodeAddress, NodeStatus, Pod
from tortie.api.meta import Metadata
from tortie.kube.client import ApiError
from tortie.kube.resources import NODE_PEERS
from tortie.operator.admission import Admission
from tortie.operator.blocks import Blocks
from tortie.operator.compile import peers
from tortie.operator.holdings import Holdings
from tortie.operator.ipam.assignment import Assigner, Assignment, Ground
from tortie.operator.ipam.candidates import BLOCKS_PER_HOST
from tortie.operator.ipam.pools import within
from tortie.operator.orders import addresses
from tortie.operator.presence import Presence
from tortie.operator.status import Reports
from tortie.operator.world import Dirty, World
from tortie.operator.writer import Writer, meta, unstamped

log = logging.getLogger(__name__)

COOLER = 2.0
"""Seconds after which a node that lacks something is looked at again where addresses cool down."""
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
        holdings: Holdings,
        presence: Presence,
        admission: Admission,
        reports: Reports,
        keys: Callable[[], frozenset[str]],
        later: Callable[[Dirty, float], None],
    ) -> None:
        """`keys`: label keys to carry that are left out by default. `later(dirty, at)`: look again."""
        self._world = world
        self._writer = writer
        self._blocks = blocks
        self._holdings = holdings
        self._presence = presence
        self._admission = admission
        self._reports = reports
        self._keys = keys
        self._later = later
        self._written: dict[str, float] = {}
        self._carrying: dict[str, frozenset[str]] = {}
        """Label keys, left out by default, that each published NodePeer has where its pods have them."""
        self._claims: dict[tuple[str, str], asyncio.Task[None]] = {}
        """(node, pool) → its claim in progress."""
        self._exhausted: dict[str, tuple[str, tuple[str, ...]]] = {}
        """Name of a pool that had no free block → its CIDR, and what was reserved then."""
        self._lacking: set[str] = set()
        """Nodes that could not be given all that they need, or that is kept ahead of need."""
        self._rooms = 0
        """How often a block has become free."""

    @property
    def claiming(self) -> bool:
        return bool(self._claims)

    def close(self) -> None:
        for task in self._claims.values():
            task.cancel()

    def carry(self, keys: frozenset[str]) -> bool:
        """Whether every published NodePeer has these label keys where its pods have them."""
        return not keys or all(keys <= self._carrying.get(n.metadata.name, frozenset()) for n in self._world.nodes)

    async def publish(self, name: str) -> None:
        """Bring a node's NodePeer up to the world. Raises ApiError."""
        self._admission.note(name)
        if (soonest := self._written.get(name, 0.0) + EVERY) > time.monotonic():
            self._later(Dirty("peer", name), soonest)
            return
        exists = await self._presence.node(name)
        await self._presence.pods(name)
        # From here to the write nothing is awaited: it is computed, stamped and sent from one picture of the world.
        published = self._world.peers.get(name)
        if published is not None:
            self._writer.check(published.spec)
        node = self._world.nodes.get(name) or ghost(name, published)
        previous = published.spec if published is not None else NodePeerSpec()
        living = {endpoint.uid for endpoint in previous.endpoints}
        living |= self._admission.admitted(name) if exists else set()
        pods = [pod for pod in self._world.pods_of(name) if pod.metadata.uid in living]
        ground = self._ground(node, previous, pods, exists)
        assigned = Assigner(ground).run(pods)
        left = {a.spec.cidr: a for a in self._world.affinities_of(name) if a.spec.cidr in assigned.leaving}
        keys = self._keys()
        spec = peers.peer(node, pods, assigned, self._named(name, previous, assigned), keys)
        if exists or spec.endpoints or spec.blocks or self._world.affinities_of(name) or self._world.blocks_of(name):
            await self._write(name, published, spec, left)
            self._carrying[name] = keys
        elif published is not None:
            await self._writer.delete(NODE_PEERS, published)
            self._written.pop(name, None)
            self._carrying.pop(name, None)
        for pool in assigned.wants.values():
            if self._coming(name, pool, {*ground.blocks, *previous.blocks}):
                self._later(Dirty("peer", name), time.monotonic() + CLAIM_AGAIN)
            else:
                self._claim(name, pool)
        (self._lacking.add if assigned.lacking else self._lacking.discard)(name)
        if assigned.lacking and self._world.ipam.ip_cooldown_seconds:
            self._later(Dirty("peer", name), time.monotonic() + COOLER)

    async def room(self, _: str) -> None:
        """A block may have become free: whoever lacks one is looked at again."""
        self._rooms += 1
        self._exhausted.clear()
        for name in self._lacking:
            self._later(Dirty("peer", name), 0.0)

    async def _write(
        self, name: str, published: NodePeer | None, spec: NodePeerSpec, left: dict[str, BlockAffinity]
    ) -> None:
        """If it says something new, or if a leader before us might still be about to write what we count on not being
        there: an agent confirms that it does not use a block by what its NodePeer says."""
        fence = (
            published is not None and published.spec.epoch != self._writer.epoch and bool(self._world.releasing(name))
        )
        if published is not None and unstamped(published.spec) == spec and not fence:
            return
        previous = published.spec if published is not None else NodePeerSpec()
        self._written[name] = time.monotonic()
        peer = NodePeer(metadata=meta(name, published), spec=self._writer.stamped(spec))
        try:
            with self._holdings.sending(name):
                written = await self._writer.write(NODE_PEERS, published, peer)
                self._holdings.written(name, written.metadata.version, left)
        finally:
            self._later(Dirty("blocks", name), 0.0)  # nothing was done about them meanwhile
        self._admission.note(name)
        if addresses(published) - addresses(written) or previous.blocks != spec.blocks:
            self._later(Dirty("peer", name), self._written[name] + EVERY)  # a block that is left empty may go, too
        self._reports.unserved(spec, previous)

    def _named(self, name: str, previous: NodePeerSpec, assigned: Assignment) -> set[str]:
        """Blocks that the NodePeer is to name. One that is used stays, and with it its route, whatever became of its
        affinity."""
        blocks = {*previous.blocks, *self._holdings.usable(name)} - {*assigned.leaving}
        given = {*itertools.chain(*assigned.addresses.values()), assigned.tunnels.vxlan4, assigned.tunnels.vxlan6}
        lost = blocks & {*self._world.releasing(name)}
        return blocks - {block for block in lost if not any(within(address, block) for address in given - {""})}

    def _ground(self, node: Node, previous: NodePeerSpec, pods: list[Pod], exists: bool) -> Ground:
        """No pool gives anything to a Node that is gone."""
        name, ipam, reserved = node.metadata.name, self._world.ipam, self._world.reserved
        return Ground(
            node_labels=node.metadata.labels,
            pools=self._world.giving_pools if exists else (),
            blocks=self._blocks.usable(name),
            previous=previous,
            namespaces={ns.metadata.name: ns.metadata.labels for ns in self._namespaces(pods)},
            exhausted=frozenset(
                pool.metadata.name
                for pool in self._world.pools
                if self._exhausted.get(pool.metadata.name) == (pool.spec.cidr, reserved)
            ),
            reserved=reserved,
            most_blocks=ipam.max_blocks_per_host or BLOCKS_PER_HOST,
            claiming=ipam.auto_allocate_blocks,
            idle_since=time.monotonic() - ipam.ip_cooldown_seconds,
        )

    def _namespaces(self, pods: Iterable[Pod]) -> Iterable[Namespace]:
        found = (self._world.namespaces.get(name) for name in {pod.metadata.namespace for pod in pods})
        return (namespace for namespace in found if namespace is not None)

    def _coming(self, node: str, pool: IPPool, known: Collection[str]) -> bool:
        """Whether a block of the pool became the node's, or is becoming it, since it was seen that one is wanted."""
        states = ("", "pending", "confirmed")
        news = (a.spec.cidr for a in self._world.affinities_of(node) if a.spec.state in states)
        return any(cidr not in known and within(cidr, pool.spec.cidr) for cidr in news)

    def _claim(self, node: str, pool: IPPool) -> None:
        """One claim at a time of a node in a pool, beside the turns: no other node waits for it."""
        name = pool.metadata.name
        if (node, name) in self._claims:
            return

        async def claim() -> None:
            rooms, reserved = self._rooms, self._world.reserved
            try:
                if not await self._blocks.claim(node, pool) and rooms == self._rooms:
                    log.warning("pool has no free block", extra={"pool": name, "cidr": pool.spec.cidr, "node": node})
                    self._exhausted[name] = pool.spec.cidr, reserved
            except ApiError as error:
                log.warning("claim failed", extra={"node": node, "pool": name, "error": str(error)})
                await asyncio.sleep(CLAIM_AGAIN)
            finally:
                del self._claims[node, name]
                self._later(Dirty("peer", node), 0.0)

        self._claims[node, name] = asyncio.create_task(claim())


def ghost(name: str, published: NodePeer | None) -> Node:
    """A Node that is gone, as far as its NodePeer remembers it: what is on it stays until its pods are gone, too."""
    spec = published.spec if published is not None else NodePeerSpec()
    addresses = tuple(NodeAddress(type="InternalIP", address=address) for address in spec.addresses)
    return Node(metadata=Metadata(name=name, uid=spec.uid), status=NodeStatus(addresses=addresses))
