"""The operator without its API server: full publication and single changes of big clusters, in CPU time and memory.

Writes go to a store in memory that numbers them, so that the figures are the operator's own. Each size is measured in a
process of its own.

    python -m bench.compiler PODS NAMESPACES POLICIES MIX
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from bench.cluster import Size, objects
from bench.figures import Figure, percentile, single
from tortie.kube.client import NotFound, Resource
from tortie.operator import pace
from tortie.operator.publish import Publisher
from tortie.operator.world import Dirty, World

T = TypeVar("T")

SIZES = (
    Size(10_000, 500, 1_000, "kubernetes"),
    Size(100_000, 25_000, 75_000, "kubernetes"),
    Size(100_000, 1_000, 10_000, "calico"),
    Size(100_000, 1_000, 2_000, "global"),
    Size(250_000, 1_000, 10_000, "calico"),
)
"""The second is the one of Antrea's controller: 6 s and 1.6 GB, in Go."""
ROUNDS = 40
MIB = 1 << 20


class Store:
    """Takes the operator's writes as an API server would, without keeping them: the world does."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.writes: Counter[str] = Counter()

    async def create(self, resource: Resource, obj: Any, *, namespace: str = "", type: type[T]) -> T:
        return self._written(resource, obj, type)

    async def replace(self, resource: Resource, obj: Any, *, subresource: str = "", type: type[T]) -> T:
        return self._written(resource, obj, type)

    async def patch(self, resource: Resource, name: str, body: Any, **_: Any) -> Any:
        raise NotFound(404, "NotFound", "nothing is kept here")

    async def delete(self, resource: Resource, name: str, **_: Any) -> None:
        self.writes[resource.plural] += 1

    def _written(self, resource: Resource, obj: Any, type: type[T]) -> T:
        self.version += 1
        self.writes[resource.plural] += 1
        obj = msgspec.json.decode(msgspec.json.encode(obj), type=type)
        meta = msgspec.structs.replace(obj.metadata, resource_version=str(self.version), uid=f"u{self.version}")
        written: T = msgspec.structs.replace(obj, metadata=meta)
        return written


class Run:
    def __init__(self, size: Size) -> None:
        self.size = size
        self.world = World()
        kinds: dict[str, dict[str, Any]] = {}
        self.version = 0
        for kind, obj in objects(size):
            kinds.setdefault(kind, {})[obj.metadata.key] = obj
            self.version = obj.metadata.version
        for kind, found in kinds.items():
            self.world.replace(kind, found, self.version)
        pace.EVENTS_PER_SECOND = 10**12  # what is measured is the work, not the consideration for API servers
        self.store = Store(self.version)
        self.publisher = Publisher(self.store, self.world, 1, lambda: True)  # type: ignore[arg-type]

    async def settle(self) -> float:
        """CPU seconds until nothing is due."""
        began = time.process_time()
        publishing = asyncio.create_task(self.publisher.run())
        while not self.publisher.idle:  # noqa: ASYNC110 - 10 ms are nothing here
            await asyncio.sleep(0.01)
        publishing.cancel()
        await asyncio.wait([publishing])
        return time.process_time() - began

    async def measure(self) -> dict[str, Any]:
        began = time.process_time()
        self.publisher.adopt()
        adopted = time.process_time() - began
        full = adopted + await self.settle()
        writes = dict(self.store.writes)
        entries = sum(len(peer.spec.endpoints) for peer in self.world.peers)
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        takeover = await self.take_over()
        changes = {name: await self.changes(name) for name in ("pod", "label", "policy", "namespace")}
        return {
            "full": full,
            "rss": rss,
            "writes": writes,
            "entries": entries,
            "takeover": takeover,
            "changes": changes,
        }

    async def take_over(self) -> dict[str, Any]:
        """What a successor with a warm world does until it is up to date: it looks at everything, writes nothing."""
        self.store.writes.clear()
        self.publisher = Publisher(self.store, self.world, 2, lambda: True)  # type: ignore[arg-type]
        began = time.process_time()
        self.publisher.adopt()
        cpu = time.process_time() - began + await self.settle()
        return {"cpu": cpu, "writes": sum(self.store.writes.values())}

    async def changes(self, what: str) -> dict[str, Any]:
        """CPU milliseconds and writes of single changes of one sort."""
        cpu, writes = [], []
        for number in range(ROUNDS):
            self.store.writes.clear()
            began = time.process_time()
            self.publisher.touch(self.change(what, number))
            cpu.append((time.process_time() - began + await self.settle()) * 1000)
            counted = Counter(self.store.writes)
            counted.pop("policystatuses", None)  # what users look at, not what agents watch
            writes.append(sum(counted.values()))
        return {"cpu": cpu, "writes": writes}

    def change(self, what: str, number: int) -> set[Dirty]:
        world = self.world
        self.store.version += 1
        match what:
            case "pod":
                kind, obj = "pods", next(pod for pod in world.pods if pod.metadata.name.endswith(f"-{number}"))
                renamed = {"name": f"new-{number}", "uid": f"new-{number}"}
                return world.put(kind, self._again(obj, **renamed))
            case "label":
                obj = next(pod for pod in world.pods if pod.metadata.name.endswith(f"-{number + 1000}"))
                return world.put("pods", self._again(obj, labels={**obj.metadata.labels, "tier": f"new{number}"}))
            case "policy":
                kind = {"kubernetes": "knp", "calico": "np", "global": "gnp"}[self.size.mix]
                obj = next(p for p in world.shelves[kind] if p.metadata.name == f"p{number}")
                spec = msgspec.structs.replace(obj.spec, ingress=obj.spec.ingress[:-1])
                return world.put(kind, msgspec.structs.replace(self._again(obj, generation=2), spec=spec))
        obj = world.namespaces.get(f"ns{number}")
        assert obj is not None
        return world.put("namespaces", self._again(obj, labels={**obj.metadata.labels, "team": "t1", "round": "2"}))

    def _again(self, obj: Any, **changes: Any) -> Any:
        meta = msgspec.structs.replace(obj.metadata, resource_version=str(self.store.version), **changes)
        return msgspec.structs.replace(obj, metadata=meta)


def figures() -> list[Figure]:
    return [figure for size in SIZES for figure in of_size(size)]


def of_size(size: Size) -> Iterable[Figure]:
    command = [sys.executable, "-m", "bench.compiler", *map(str, (size.pods, size.namespaces, size.policies, size.mix))]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    about = f"{size.pods:,} pods, {size.namespaces:,} namespaces, {size.policies:,} {size.mix} policies"
    yield single(f"full compile: {about}", result["full"], "s CPU", "≤ 60", [result["writes"]])
    yield single(f"full compile, peak memory: {about}", result["rss"] / MIB, "MiB", "≤ 2048")
    yield single(f"take-over: {about}", result["takeover"]["cpu"], "s CPU", "≤ 15")
    yield single("take-over, writes", result["takeover"]["writes"], "", "≤ 0")
    for name, change in result["changes"].items():
        budget = "≤ 5" if name == "pod" else ""
        yield single(f"{name} change, P99: {about}", percentile(change["cpu"], 99), "ms CPU", budget, change["cpu"])
        yield single(f"{name} change, writes", max(change["writes"]), "", "≤ 1", change["writes"])


if __name__ == "__main__":
    pods, namespaces, policies, mix = sys.argv[1:]
    print(json.dumps(asyncio.run(Run(Size(int(pods), int(namespaces), int(policies), mix)).measure())))
