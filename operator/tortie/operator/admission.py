"""When a pod may have its first entry: not before what it is to be judged by is published."""

from __future__ import annotations

import time
from collections.abc import Callable

from tortie.api.internal import compiled_name
from tortie.api.kubernetes import Pod
from tortie.operator.world import Dirty, World

HELD_BACK = 0.05
"""Seconds that a pod's first entry waits after its event: a policy created before the pod gets ahead of it (rule 9)."""


class Admission:
    def __init__(self, world: World, steady: Callable[[], bool], later: Callable[[Dirty, float], None]) -> None:
        """`steady`: whether all watches that policies come from are open and synced. `later(dirty, at)`: look again."""
        self._world = world
        self._steady = steady
        self._later = later
        self._unsteady: set[str] = set()
        """Nodes with pods that wait for the watches to be steady."""
        self.arrived: dict[str, dict[str, float]] = {}
        """By node: UID of each pod that is scheduled and has no entry yet → since when (monotonic seconds)."""

    def note(self, node: str) -> None:
        """Which pods of a node wait, and since when."""
        published = self._world.peers.get(node)
        known = {endpoint.uid for endpoint in published.spec.endpoints} if published else set()
        before, now = self.arrived.pop(node, {}), time.monotonic()
        uids = [uid for pod in self._world.pods_of(node) if (uid := pod.metadata.uid) not in known]
        if uids:
            self.arrived[node] = {uid: before.get(uid, now) for uid in uids}

    def admitted(self, node: str) -> set[str]:
        """UIDs of the pods that need not wait any longer."""
        self.note(node)
        arrived = self.arrived.get(node)
        if not arrived:
            return set()
        now, steady = time.monotonic(), self._steady()
        found = set()
        for pod in self._world.pods_of(node):
            since = arrived.get(pod.metadata.uid)
            if since is None:
                continue
            if (held_until := since + HELD_BACK) > now:
                self._later(Dirty("peer", node), held_until)
            elif not steady:
                self._unsteady.add(node)
            elif self._profiled(pod):
                found.add(pod.metadata.uid)
        return found

    def _profiled(self, pod: Pod) -> bool:
        """Whether what the entry speaks of is published (rule 2). An account that is gone has nothing to publish."""
        world, namespace, account = self._world, pod.metadata.namespace, pod.spec.service_account_name or "default"
        if namespace not in world.namespaces or compiled_name("kns", namespace) not in world.policies:
            return False
        known = f"{namespace}/{account}" in world.service_accounts
        return not known or compiled_name("ksa", account, namespace) in world.policies

    def resumed(self) -> set[Dirty]:
        """What need not wait any longer, because the watches are steady again."""
        if not self._unsteady or not self._steady():
            return set()
        nodes, self._unsteady = self._unsteady, set()
        return {Dirty("peer", node) for node in nodes}

    @property
    def waiting(self) -> bool:
        """Whether it is worth while to ask `resumed` soon."""
        return bool(self._unsteady)
