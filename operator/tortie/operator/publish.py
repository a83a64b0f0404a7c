"""What is desired becomes objects, in an order that no reader can misread.

What changed is marked dirty and computed anew from the world, in turns. Each turn writes sets, then tiers and policies,
awaits their acknowledgements, and then writes NodePeers with the marks of what was acknowledged (`spec.after`). Writes
carry the resourceVersion that they were computed from; after a conflict the object is read and computed anew, never
sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from tortie.api.internal import NodeState
from tortie.kube.client import ApiError, Client, Conflict
from tortie.kube.resources import NODE_STATES
from tortie.operator.blocks import Blocks
from tortie.operator.compile import nodes
from tortie.operator.compile.policies import sources
from tortie.operator.enforcement import Enforcement
from tortie.operator.keys import compiled_source, source_key
from tortie.operator.peers import Peers
from tortie.operator.policies import Policies
from tortie.operator.status import Reports
from tortie.operator.world import Dirty, Output, World
from tortie.operator.writer import Writer, meta, unstamped

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.1, 10.0
IN_FLIGHT = 64
PHASES: tuple[tuple[Output, ...], ...] = (
    ("set",),
    ("tier", "policy"),
    ("peer", "state", "blocks", "report"),
    ("status",),
)
"""What a turn writes, phase by phase: the next one begins when all of one is acknowledged."""


class Publisher:
    """The leader's one writer of internal objects."""

    def __init__(self, client: Client, world: World, epoch: int, steady: Callable[[], bool]) -> None:
        """`steady`: whether all watches that policies come from are open and synced."""
        self._world = world
        self._due: dict[Dirty, float] = {}
        """When each is to be looked at (monotonic seconds)."""
        self._wake = asyncio.Event()
        self._turning = False
        self._failures: dict[Dirty, int] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._writer = Writer(client, world, epoch, self.touch)
        self._reports = Reports(client, world)
        self.blocks = Blocks(client, world, epoch, self.touch)
        self.peers = Peers(world, self._writer, self.blocks, self._reports, steady, self._keys, self._later)
        self.policies = Policies(world, self._writer, self.peers.carry, self._later)
        self._enforcement = Enforcement(client, world, self.policies, epoch, self._later)
        self._writer.recorded = self.blocks.recorded

    @property
    def idle(self) -> bool:
        """Nothing is to be looked at, not even later."""
        return not self._due and not self._turning

    def touch(self, dirty: Iterable[Dirty]) -> None:
        """These may have to be published anew, now."""
        now = time.monotonic()
        for each in dirty:
            if self._due.get(each, now + 1) > now:
                self._due[each] = now
        self._wake.set()

    def _keys(self) -> frozenset[str]:
        return self.policies.keys

    def _later(self, dirty: Dirty, at: float) -> None:
        self._due[dirty] = min(at, self._due.get(dirty, at))
        self._wake.set()

    def adopt(self) -> None:
        """Begin a term with what is published: marks from its versions, everything to be looked at.

        Raises Superseded.
        """
        self._writer.adopt()
        names = {obj.metadata.name for shelf in (self._world.nodes, self._world.peers) for obj in shelf}
        names |= {affinity.spec.node for affinity in self._world.affinities}
        names |= {state.metadata.name for state in self._world.states}
        self.touch(Dirty(output, name) for name in names for output in ("peer", "state", "blocks", "report"))
        self.touch(Dirty("policy", key) for key in sources(self._world))
        tiers = {tier.metadata.name for shelf in (self._world.tiers, self._world.compiled_tiers) for tier in shelf}
        self.touch(Dirty("tier", name) for name in tiers)
        sets = {compiled_source(compiled) for compiled in self._world.compiled_sets}
        sets |= {
            source_key(kind, obj.metadata.name, obj.metadata.namespace)
            for kind in ("ns", "gns")
            for obj in self._world.shelves[kind]
        }
        self.touch(Dirty("set", key) for key in sets)
        self.touch(Dirty("status", compiled_source(status)) for status in self._world.statuses)

    # --- turns ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish for ever. Raises Superseded."""
        try:
            while True:
                first = min(self._due.values(), default=float("inf"))
                pause = None if first == float("inf") else max(0.0, first - time.monotonic())
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                self._turning = True
                await self.turn()
                self._turning = False
        finally:
            self.peers.close()

    async def turn(self) -> None:
        """Everything that is due, in phases."""
        now = time.monotonic()
        due = {dirty for dirty, at in self._due.items() if at <= now}
        for dirty in [dirty for dirty in due if dirty.output == "policy"]:
            due |= self.policies.look(dirty.key)
        for dirty in due:
            self._due.pop(dirty, None)
        work: dict[Output, Callable[[str], Awaitable[None]]] = {
            "set": self.policies.publish_set,
            "tier": self.policies.publish_tier,
            "policy": self.policies.publish,
            "peer": self.peers.publish,
            "state": self._state,
            "blocks": self.blocks.tend,
            "report": self._reports.tell,
            "status": self._enforcement.publish,
        }
        for phase in PHASES:
            batch = [dirty for dirty in due if dirty.output in phase]
            due.difference_update(batch)
            acknowledged = await asyncio.gather(*(self._one(dirty, work[dirty.output]) for dirty in batch))
            statuses = {Dirty("status", key) for dirty in batch for key in self._enforcement.look(dirty)}
            if not all(acknowledged):
                # What could not be acknowledged may be what the rest depends on: that comes with its next try.
                for dirty in due | statuses:
                    self._later(dirty, time.monotonic() + RETRY_FIRST)
                return
            due |= statuses

    async def _one(self, dirty: Dirty, work: Callable[[str], Awaitable[None]]) -> bool:
        """False if what follows must wait for another try of this one."""
        async with self._slots:
            try:
                await work(dirty.key)
            except ApiError as error:
                count = self._failures[dirty] = self._failures.get(dirty, 0) + 1
                pause = min(RETRY_FIRST * 2 ** (count - 1), RETRY_MOST)
                self._later(dirty, time.monotonic() + pause)
                if not isinstance(error, Conflict) or count > 3:
                    log.warning("publishing failed", extra={"what": "/".join(dirty), "error": str(error)})
                # One that is refused for what it says would hold up everything for ever.
                return error.status in (400, 413, 422)
            self._failures.pop(dirty, None)
            return True

    # --- objects --------------------------------------------------------------------------------------------------

    async def _state(self, name: str) -> None:
        node, published = self._world.nodes.get(name), self._world.states.get(name)
        if node is None:
            if published is not None:
                await self._writer.delete(NODE_STATES, published)
            return
        spec, warnings = nodes.state(node, self._world.pools, self._world.felix, self._world.releasing(name))
        self._reports.warn(warnings)
        if published is None or unstamped(published.spec) != spec:
            state = NodeState(metadata=meta(name, published), spec=self._writer.stamped(spec))
            await self._writer.write(NODE_STATES, published, state)
