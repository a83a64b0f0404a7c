"""A cluster, its operators and what befalls them, from one seed."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from random import Random
from typing import Any

from tortie.api.calico import BlockAffinity, ClusterInformation, IPAMBlock
from tortie.api.internal import NodePeer, NodeState
from tortie.api.kubernetes import Pod
from tortie.api.meta import Metadata
from tortie.kube.resources import CLUSTER_INFORMATION
from tortie.operator.defaults import MADE

from . import settled
from .apiserver import ApiServer
from .cluster import Cluster
from .invariants import Broken, Invariants
from .network import Weather
from .replica import Replica

CALM = Weather()
STORMY = Weather(lost=0.02, unanswered=0.03, late=0.02, refused=0.03, latency=0.05, lag=0.3, stall=0.02, cut=0.01)
QUIET = 80.0
"""Seconds in which everything settles once nothing new happens; requests that come late are over by then."""
COUNTED = {
    *("pods", "nodes", "namespaces", "serviceaccounts", "compiledpolicies", "nodepeers", "nodestates"),
    *("ippools", "ipreservations", "ipamconfigurations", "blockaffinities", "ipamblocks"),
}
"""Kinds that the protocol is about: a request about any other is no step."""
RESTARTS = 3
SUCCESSION = 13.0
"""Seconds in which a successor does whatever it thinks is left to do."""


class Simulation:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.steps = 0
        self.trace: deque[tuple[Any, ...]] = deque(maxlen=3000)
        self.server = ApiServer()
        kind = self.random.random()
        self.weather = replace(CALM if kind < 0.25 else STORMY)
        self.deadly = 0.0 if kind < 0.1 else self.random.choice((0.002, 0.01, 0.03))
        """Probability that an operator is killed right before a request of it is carried out."""
        self.cluster = Cluster(self.server, self.random, self.weather.lag, self._attaching)
        self.invariants = Invariants(self.server, self.cluster.attached)
        self.server.listeners.append(self._wrote)
        self.replicas: list[Replica] = []
        self.failures: list[BaseException] = []
        self._epoch = 0

    # --- what happens ---------------------------------------------------------------------------------------------

    async def run(self, actions: int) -> None:
        """Raises Broken, and what else went wrong anywhere."""
        asyncio.get_running_loop().set_exception_handler(self._failed)
        information = ClusterInformation(metadata=Metadata(name="default", annotations={MADE: ""}))
        self.server.create(CLUSTER_INFORMATION, information)
        self.cluster.begin()
        self.start()
        for _ in range(actions):
            await asyncio.sleep(self._pause())
            self._act()
            self.check()
        await self.settle()

    def _pause(self) -> float:
        """Mostly so short that much is under way at once, sometimes long enough for all of it to end."""
        if self.random.random() < 0.02:
            return self.random.expovariate(0.2)
        return self.random.choice((0.0, 0.02, 0.1, 0.6)) * self.random.random()

    def _act(self) -> None:
        self.steps += 1
        dice = self.random.random()
        alive = [replica for replica in self.replicas if replica.alive]
        if not alive or (dice < 0.05 and len(alive) < 3):
            self.start()
        elif dice < 0.06 and self.deadly:
            self._kill(self.random.choice(alive))
        elif dice < 0.08 and self.deadly:
            replica = self.random.choice(alive)
            replica.wire.cut = not replica.wire.cut
            self._note(f"cut {replica.epoch}: {replica.wire.cut}")
        elif dice < 0.16 and self.deadly:
            self._deafen(self.random.choice(alive))
        else:
            self._note(self.cluster.act())

    def start(self) -> Replica:
        replica = Replica(self.server, self.weather, self.random, self._next_epoch, self._stepped)
        replica.wire.sent = lambda verb, obj: stamped(replica, obj)
        self.replicas.append(replica)
        return replica

    def _next_epoch(self) -> int:
        self._epoch += 1
        self._note(f"operator {self._epoch} leads")
        return self._epoch

    def _kill(self, replica: Replica) -> None:
        self._note(f"operator {replica.epoch} is killed")
        replica.kill()

    def _deafen(self, replica: Replica) -> None:
        """Some of its watches say nothing for a while, as if nothing had happened."""
        until = asyncio.get_running_loop().time() + self.random.expovariate(0.3)
        kinds = self.random.sample(sorted(COUNTED), self.random.randint(1, 6))
        for kind in kinds:
            replica.feeds[kind].silent_until = until
        self._note(f"{replica.epoch} does not hear of {kinds} until {until:.3f}")

    def _stepped(self, replica: Replica, what: str, key: str) -> None:
        self.steps += what.partition(" ")[2] in COUNTED
        self._note("  ", replica.epoch, what, key)
        if replica.alive and self.random.random() < self.deadly:
            self._kill(replica)

    def _note(self, *what: Any) -> None:
        self.trace.append((asyncio.get_running_loop().time(), *what))

    def _wrote(self, plural: str, before: Any, after: Any) -> None:
        self._note("   =", plural, (after or before).metadata.key, after)

    def story(self) -> str:
        """What happened last, a line each."""
        return "\n".join(f"{time:9.3f} {' '.join(told(part) for part in what)}" for time, *what in self.trace)

    def _attaching(self, node: str, uid: str, addresses: tuple[str, ...]) -> None:
        self.steps += 1
        self.invariants.attaching(node, uid, addresses)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback raises, as do listeners of the server."""
        self.failures.append(context.get("exception") or RuntimeError(context["message"]))

    def check(self) -> None:
        if self.failures:
            raise self.failures[0]
        for replica in self.replicas:
            if (error := replica.failure()) is not None:
                raise Broken(f"operator {replica.epoch} has died of {error!r}") from error
        self.replicas = [replica for replica in self.replicas if replica.alive]

    # --- the end --------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Nothing new happens, the weather is fine, and one operator is left."""
        self.deadly = 0.0
        for field, value in vars(CALM).items():
            setattr(self.weather, field, value)
        self.cluster.lag = CALM.lag
        for machine in self.cluster.machines.values():
            machine.lag = CALM.lag
        alive = [replica for replica in self.replicas if replica.alive]
        for replica in alive:
            replica.wire.cut = False
            for feed in replica.feeds.values():
                feed.silent_until = 0.0
        for replica in alive[:-1]:
            self._kill(replica)
        for _ in range(RESTARTS):
            self.check()
            if not self.replicas:
                self.start()  # as any Deployment does, also of one that gave up in favour of another that is gone
            await asyncio.sleep(QUIET / RESTARTS)
        self.check()
        settled.check(self.server)
        await self._succeeded()

    async def _succeeded(self) -> None:
        """What is published depends on the world alone: a successor that starts from it has nothing to write."""
        for replica in self.replicas:
            self._kill(replica)
        before = {plural: dict(objects) for plural, objects in self.server.objects.items()}
        successor = self.start()
        await asyncio.sleep(SUCCESSION)
        self.check()
        if successor.wire.writes or self.server.objects != before:
            raise Broken("a successor publishes the same world in another way")


def stamped(replica: Replica, obj: Any) -> None:
    """Rule 3: a NodePeer is sent with the marks of everything that was acknowledged."""
    if isinstance(obj, NodePeer):
        for kind, mark in replica.wire.acknowledged.items():
            if obj.spec.after.get(kind, 0) < mark:
                raise Broken(f"NodePeer {obj.metadata.name} is stamped {obj.spec.after}; {kind} {mark} is acknowledged")


def told(what: Any) -> str:
    """The gist of an object, for people who read a story."""
    match what:
        case NodePeer():
            spec = what.spec
            entries = {e.name: e.addresses or e.error for e in spec.endpoints}
            gist = f"epoch {spec.epoch} {spec.blocks} {entries} {spec.tunnels.vxlan4} {spec.tunnels.vxlan6}"
        case NodeState():
            spec, status = what.spec, what.status
            gist = f"epoch {spec.epoch} releasing {spec.releasing}; {status.generation} released {status.released}"
        case BlockAffinity():
            gist = what.spec.state
        case IPAMBlock():
            gist = f"{what.spec.affinity} {what.spec.allocations}"
        case Pod():
            ips = [ip.ip for ip in what.status.pod_ips]
            ending = "ending" if what.metadata.deletion_timestamp else ""
            gist = f"{what.metadata.uid} on {what.spec.node_name} {what.status.phase} {ips} {ending}"
        case None:
            return "gone"
        case _ if hasattr(what, "metadata"):
            gist = ""
        case _:
            return str(what)
    return f"v{what.metadata.version} {gist}"
