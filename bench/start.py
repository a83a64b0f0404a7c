"""How long a pod's start takes: the CNI plugin alone, and from its creation until every node reaches it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.figures import Figure, spread
from bench.workload import NAMESPACE, manifest, pod
from tortie.api.internal import NodePeer
from tortie.api.kubernetes import Pod
from tortie.kube.client import Client
from tortie.kube.informer import Change, Informer, Put
from tortie.kube.resources import NODE_PEERS, POD
from tortie.lab import Lab

PODS = 100
AT_ONCE = 2
ADD_BUDGET = "≤ 50"
REACH = Path(__file__).with_name("reach.py")


async def figures(lab: Lab) -> list[Figure]:
    nodes = lab.plan.node_names
    async with await Client.connect(lab.kubeconfig, "tortie-bench") as client, probers(lab, nodes) as probing:
        starts = await started(client, nodes, probing)
    return [
        *spread("pod created → reachable from every node", starts, "ms"),
        *spread("CNI ADD, entry there", attached(lab), "ms", ADD_BUDGET),
    ]


def attached(lab: Lab) -> list[float]:
    """Milliseconds of the last PODS calls of ADD, as the kubelets logged them."""
    entries = [json.loads(line) for file in lab.logs("kubelet") for line in file.read_text().splitlines()]
    ran = [
        e
        for e in entries
        if e["msg"] == "plugin ran" and (e["plugin"], e["command"], e["code"]) == ("tortie", "ADD", 0)
    ]
    return [entry["ms"] for entry in sorted(ran, key=lambda entry: entry["ts"])[-PODS:]]


class Prober:
    """A process in a pod that tells when an address began to answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._asked: dict[str, asyncio.Future[float]] = {}

    async def reached(self, address: str) -> float:
        """When it first answered: CLOCK_MONOTONIC in seconds, which all namespaces share."""
        answer = self._asked[address] = asyncio.get_running_loop().create_future()
        self._stdin.write(f"{address}\n".encode())
        return await answer

    async def listen(self) -> None:
        while line := await self._stdout.readline():
            address, seconds = line.split()
            self._asked.pop(address.decode()).set_result(float(seconds))


@asynccontextmanager
async def probers(lab: Lab, nodes: list[str]) -> AsyncIterator[list[Prober]]:
    """One in a pod of each node."""
    async with AsyncExitStack() as stack:
        found = []
        for node in nodes:
            await stack.enter_async_context(pod(lab, f"prober-{node}", node))
            command = lab.pod_command(f"{NAMESPACE}/prober-{node}", [sys.executable, "-I", str(REACH)])
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            assert process.stdin is not None
            stack.callback(process.stdin.close)  # which ends it
            found.append(Prober(process))
        listening = [asyncio.create_task(prober.listen()) for prober in found]
        yield found
        for task in listening:
            task.cancel()


class Addresses:
    """IPv4 addresses of pods, as soon as they are published."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[str]] = {}

    def of(self, name: str) -> asyncio.Future[str]:
        return self._waiting.setdefault(f"{NAMESPACE}/{name}", asyncio.get_running_loop().create_future())

    def take(self, change: Change[NodePeer]) -> None:
        if isinstance(change, Put):
            for endpoint in change.obj.spec.endpoints:
                answer = self._waiting.get(endpoint.name)
                if answer and not answer.done() and endpoint.addresses:
                    answer.set_result(endpoint.addresses[0])


async def started(client: Client, nodes: list[str], probing: list[Prober]) -> list[float]:
    """Milliseconds from a pod's creation until the last node's prober had an answer from it."""
    addresses = Addresses()
    informer = Informer(client, NODE_PEERS, NodePeer, listener=addresses.take)
    watching = asyncio.create_task(informer.run())
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> float:
        name = f"start-{number}"
        async with slots:
            began = time.monotonic()
            await client.create(POD, manifest(name, nodes[number % len(nodes)]), namespace=NAMESPACE, type=Pod)
            address = await addresses.of(name)
            last = max(await asyncio.gather(*(prober.reached(address) for prober in probing)))
            await client.delete(POD, name, namespace=NAMESPACE)
            return (last - began) * 1000

    try:
        return await asyncio.gather(*map(one, range(PODS)))
    finally:
        watching.cancel()
