"""What is desired becomes objects, in an order that no reader can misread.

What changed is marked dirty and computed anew from the world, in turns. Each turn writes sets, then tiers and policies,
awaits their acknowledgements, and then begins with NodePeers, which carry the marks of what was acknowledged
(`spec.after`), and all else. Writes carry the resourceVersion that they were computed from; after a conflict the object
is read and computed anew, never sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from tortie.api.internal import NodeState
from tortie.kube.client import ApiError, Client, Conflict
from tortie.kube.resources import NODE_STATES
from tortie.operator.admission import Admission
from tortie.operator.blocks import Blocks
from tortie.operator.compile import nodes
from tortie.operator.compile.policies import sources
from tortie.operator.enforcement import Enforcement
from tortie.operator.holdings import Holdings
from tortie.operator.keys import compiled_source, source_key
from tortie.operator.mirroring import Mirroring
from tortie.operator.orders import Orders
from tortie.operator.peers import Peers
from tortie.operator.policies import Policies
from tortie.operator.presence import Presence
from tortie.operator.status import Reports
from tortie.operator.world import Dirty, Output, World, block_owner
from tortie.operator.writer import Writer, meta, unstamped

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.1, 10.0
IN_FLIGHT = 64
PHASES: tuple[tuple[Output, ...], ...] = (("set",), ("tier", "policy"))
"""What a turn writes first, phase by phase: the next one begins when all of one is acknowledged."""
FIRST = frozenset(output for phase in PHASES for output in phase)
STEADY_WITHIN = 0.1
"""Seconds within which it is noticed that watches are steady again."""
REFUSED = (400, 413, 422)
"""HTTP statuses of a write that is refused for what it says: trying again helps nobody."""


class Publisher:
    """The leader's one writer of internal objects."""

    def __init__(self, client: Client, world: World, epoch: int, steady: Callable[[], bool]) -> None:
        """`steady`: whether all watches that policies come from are open and synced."""
        self._world = world
        self._due: dict[Dirty, float] = {}
        """When each is to be looked at (monotonic seconds)."""
        self._wake = asyncio.Event()
        self._busy: set[Dirty] = set()
        """What is being looked at just now."""
        self._failures: dict[Dirty, int] = {}
        self._unacknowledged: set[Dirty] = set()
        """What could not be written yet and may be referred to."""
        self._slots = {first: asyncio.Semaphore(IN_FLIGHT) for first in (True, False)}
        """For what goes first, and for all else: what hangs there does not keep policies waiting."""
        self.admission = Admission(world, steady, self._later)
        self._presence = Presence(client, world, self.touch)
        self._writer = Writer(client, world, epoch, self.touch)
        self._reports = Reports(client, world)
        holdings, orders = Holdings(world), Orders(world)
        self._mirroring = Mirroring(client, world, orders)
        self._blocks = Blocks(client, world, epoch, holdings, orders, self._presence, self.touch)
        self._peers = Peers(
            world,
            self._writer,
            self._blocks,
            holdings,
            self._presence,
            self.admission,
            self._reports,
            self._keys,
            self._later,
        )
        self.policies = Policies(world, self._writer, self._peers.carry, self._later)
        self._enforcement = Enforcement(client, world, self.policies, epoch, self._later)
        self._work: dict[Output, Callable[[str], Awaitable[None]]] = {
            "set": self.policies.publish_set,
            "tier": self.policies.publish_tier,
            "policy": self.policies.publish,
            "peer": self._peers.publish,
            "room": self._peers.room,
            "state": self._state,
            "blocks": self._blocks.tend,
            "report": self._reports.tell,
            "status": self._enforcement.publish,
        }

    @property
    def idle(self) -> bool:
        """Nothing is to be looked at, not even later."""
        return not self._due and not self._busy and not self._peers.claiming

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
        """Begin a term with what is published: everything is to be looked at. Raises Superseded."""
        self._writer.adopt()
        world = self._world
        names = {obj.metadata.name for shelf in (world.nodes, world.peers, world.states) for obj in shelf}
        names |= {affinity.spec.node for affinity in world.affinities if affinity.spec.type in ("host", "")}
        names |= {block_owner(block) for block in world.blocks} - {""}
        self.touch(Dirty(output, name) for name in names for output in ("peer", "state", "blocks", "report"))
        self.touch(Dirty("policy", key) for key in sources(world))
        tiers = {tier.metadata.name for shelf in (world.tiers, world.compiled_tiers) for tier in shelf}
        self.touch(Dirty("tier", name) for name in tiers)
        sets = {compiled_source(compiled) for compiled in world.compiled_sets}
        sets |= {
            source_key(kind, obj.metadata.name, obj.metadata.namespace)
            for kind in ("ns", "gns")
            for obj in world.shelves[kind]
        }
        self.touch(Dirty("set", key) for key in sets)
        self.touch(Dirty("status", compiled_source(status)) for status in world.statuses)

    # --- turns ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish for ever. Raises Superseded."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._mirroring.run())
                self._tasks.create_task(self._reports.run())
                while True:
                    await self._pause()
                    if resumed := self.admission.resumed():
                        self.touch(resumed)
                    await self.turn()
        finally:
            self._peers.close()

    async def _pause(self) -> None:
        """Until something is due."""
        first = min((at for dirty, at in self._due.items() if dirty not in self._busy), default=float("inf"))
        if self.admission.waiting:
            first = min(first, time.monotonic() + STEADY_WITHIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if first == float("inf") else max(0.0, first - time.monotonic())):
                await self._wake.wait()
        self._wake.clear()

    async def turn(self) -> None:
        """Everything that is due: what may be referred to to the end, and a beginning of all else.

        In order, so that the same world is published in the same way. What is still being looked at waits for that.
        """
        now = time.monotonic()
        for dirty in [dirty for dirty, at in self._due.items() if at <= now and dirty.output == "policy"]:
            self.touch(self.policies.look(dirty.key))
        due = {dirty for dirty, at in self._due.items() if at <= now and dirty not in self._busy}
        for dirty in due:
            del self._due[dirty]
        self._busy |= due
        for phase in PHASES:
            batch = {dirty for dirty in due if dirty.output in phase}
            due -= batch
            async with asyncio.TaskGroup() as group:
                for dirty in sorted(batch):
                    group.create_task(self._one(dirty))
            if any(dirty.output in phase for dirty in self._unacknowledged):
                # What it would refer to may not be there yet: it comes after the next try.
                held = {dirty for dirty in due if dirty.output in FIRST or dirty.output == "peer"}
                due, self._busy = due - held, self._busy - held
                for dirty in held:
                    self._later(dirty, time.monotonic() + RETRY_FIRST)
        for dirty in sorted(due):
            self._tasks.create_task(self._one(dirty))

    async def _one(self, dirty: Dirty) -> None:
        async with self._slots[dirty.output in FIRST]:
            try:
                await self._work[dirty.output](dirty.key)
                self._failures.pop(dirty, None)
                self._unacknowledged.discard(dirty)
            except ApiError as error:
                self._failed(dirty, error)
            finally:
                self._busy.discard(dirty)
            statuses = {Dirty("status", key) for key in self._enforcement.look(dirty)}
            if statuses or dirty in self._due:
                self.touch(statuses)

    def _failed(self, dirty: Dirty, error: ApiError) -> None:
        count = self._failures[dirty] = self._failures.get(dirty, 0) + 1
        self._later(dirty, time.monotonic() + min(RETRY_FIRST * 2 ** (count - 1), RETRY_MOST))
        if not isinstance(error, Conflict) or count > 3:
            log.warning("publishing failed", extra={"what": "/".join(dirty), "error": str(error)})
        if dirty.output in FIRST and error.status not in REFUSED:
            self._unacknowledged.add(dirty)
        else:
            self._unacknowledged.discard(dirty)

    # --- objects --------------------------------------------------------------------------------------------------

    async def _state(self, name: str) -> None:
        exists = await self._presence.node(name)
        node, published = self._world.nodes.get(name), self._world.states.get(name)
        if published is not None:
            self._writer.check(published.spec)
        if not exists or node is None:
            if published is not None:
                await self._writer.delete(NODE_STATES, published)
            return
        releasing = self._releasing(name)
        spec, warnings = nodes.state(node, self._world.pools, self._world.felix, releasing)
        self._reports.warn([*warnings, *self._overlaps()])
        # An agent's word on what it released counts only if it is the answer to what was written in this term.
        stale = published is not None and published.spec.epoch != self._writer.epoch and bool(releasing)
        if published is None or unstamped(published.spec) != spec or stale:
            state = NodeState(
                metadata=meta(name, published), spec=self._writer.stamped(spec, after_peers=bool(releasing))
            )
            await self._writer.write(NODE_STATES, published, state)

    def _releasing(self, name: str) -> list[str]:
        """Blocks that the agent is to confirm that it does not use. It must have adopted the NodePeer without them
        before, or a pod that it starts later could still get an address of them."""
        peer = self._world.peers.get(name)
        if peer is None or peer.spec.epoch != self._writer.epoch:
            return []
        return [cidr for cidr in self._world.releasing(name) if cidr not in peer.spec.blocks]

    def _overlaps(self) -> list[str]:
        return [
            f"IPPool {name} gives no addresses: it overlaps the older IPPool {other}"
            for name, other in self._world.overlapped.items()
        ]
