"""The life of one pod: a sandbox, its containers in it, and the end.

A pod that is known goes on without the API server: only reports wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tortie.kube.client import Client
from tortie.lab.kubelet.cni import Cni, CniError
from tortie.lab.kubelet.command import Place
from tortie.lab.kubelet.container import Container, Home
from tortie.lab.kubelet.events import Events
from tortie.lab.kubelet.housing import Housing
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.network import Network
from tortie.lab.kubelet.probes import Prober
from tortie.lab.kubelet.records import ContainerRecord, PodRecord, Store
from tortie.lab.kubelet.report import Report
from tortie.lab.kubelet.sandbox import Sandbox, SandboxError
from tortie.lab.kubelet.status import PodView, pod_status

FIRST_DELAY, LONGEST_DELAY = 1.0, 10.0
"""Seconds between two attempts at a sandbox or its end."""


@dataclass(frozen=True)
class Node:
    """What all pods of a node share."""

    name: str
    host_ips: Sequence[str]
    client: Client
    cni: Cni
    network: Network
    store: Store
    events: Events
    prober: Prober


class Worker:
    def __init__(self, pod: Pod, node: Node, record: PodRecord | None = None) -> None:
        self.pod = pod
        self._node = node
        self._tell = node.events.of(pod)
        known = (record.sandbox, record.ips) if record else ("", ())
        self.housing = Housing(pod, node.cni, node.store, node.host_ips, known)
        self._containers = self._make_containers(pod, record)
        self._report = Report(node.client, pod, self._status)
        self._started = time.time()
        self._over = False
        self._ending = asyncio.Event()
        if pod.metadata.deletion_timestamp:
            self._ending.set()
        self._gone = asyncio.Event()
        """The API server has no such pod any more."""
        if pod.spec.restart_policy == "Never" and record is None:
            for status in pod.status.containers:
                if status.container_id:
                    self._containers[status.name].unknown()

    def _make_containers(self, pod: Pod, record: PodRecord | None) -> dict[str, Container]:
        """A node that was rebooted knows from the API server alone how often it had started something."""
        known = dict(record.containers) if record else {}
        for status in pod.status.containers if record is None else ():
            restarts = status.restart_count + bool(status.container_id)
            known[status.name] = ContainerRecord(restarts=restarts)
        return {
            spec.name: Container(
                pod,
                spec,
                known.get(spec.name, ContainerRecord()),
                self._node.store.logs(pod, spec.name),
                self._node.prober,
                self._tell,
                self._changed,
            )
            for spec in (*pod.spec.init_containers, *pod.spec.containers)
        }

    def update(self, pod: Pod) -> None:
        self.pod = pod
        self._report.seen(pod)
        if pod.metadata.deletion_timestamp:
            self._ending.set()

    def remove(self) -> None:
        self._gone.set()
        self._ending.set()

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Return when nothing of the pod is left on this node and the API server knows, or has no such pod."""
        reporting = asyncio.create_task(self._report.run(), name=f"report {self.pod.metadata.key}")
        try:
            if not self.housing.id:  # else nothing is known before the sandbox is found
                self._changed()
            if not self._ending.is_set():
                await first_of(self._live(), self._ending.wait())
            if self._ending.is_set():
                await self._stop_containers(self.pod.grace)
            self._over = True
            self._changed()
            await self._remove_sandbox()
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting
        await first_of(self._report.conclude(delete=self._ending.is_set()), self._gone.wait())
        self._node.store.forget(self.pod)

    async def _live(self) -> None:
        while not self.pod.ended and not self._ended_for_good():
            home = await self._home()
            if not await first_of(self._run_containers(home), home.sandbox.dead.wait()):
                return
            self._tell("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            for container in self._containers.values():
                container.lost()
            await self._remove_sandbox()

    def _ended_for_good(self) -> bool:
        policy = self.pod.spec.restart_policy
        return all(container.ended_for_good(policy) for container in self._main())

    async def _run_containers(self, home: Home) -> None:
        """Init containers one after another, then the others at once; sidecars for as long as those."""
        policy = self.pod.spec.restart_policy
        begun = any(container.spec.name in home.sandbox.runs for container in self._main())
        async with asyncio.TaskGroup() as group:
            sidecars = []
            for container in self._init():
                if container.spec.sidecar:
                    sidecars.append(group.create_task(container.live(home, "Always")))
                    if not begun:
                        await container.begun.wait()
                elif not begun:
                    await container.live(home, "Never" if policy == "Never" else "OnFailure")
                    if not container.view.initialized:
                        break
            else:
                await asyncio.gather(*(container.live(home, policy) for container in self._main()))
            for task in sidecars:
                task.cancel()
        await self._stop(home, [c for c in self._init() if c.spec.sidecar], self.pod.grace)

    def _init(self) -> list[Container]:
        return [self._containers[spec.name] for spec in self.pod.spec.init_containers]

    def _main(self) -> list[Container]:
        return [self._containers[spec.name] for spec in self.pod.spec.containers]

    # --- sandbox ------------------------------------------------------------------------------------------------

    async def _home(self) -> Home:
        """The sandbox of the kubelet before this one, else a new one, however long that takes."""
        if sandbox := await self.housing.find():
            for container in self._containers.values():
                container.resume(sandbox)
            self._changed()
            await self._check()
            return self._as_home(sandbox)
        delay = FIRST_DELAY
        while True:
            await self._remove_sandbox()
            try:
                return self._as_home(await self._make_sandbox())
            except (SandboxError, CniError) as error:
                message = f"Failed to create pod sandbox: {error}"
                self._tell("Warning", "FailedCreatePodSandBox", message)
                for container in self._containers.values():
                    container.explain(message)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _make_sandbox(self) -> Sandbox:
        network = self._node.network
        if not self.pod.spec.host_network and not network.ready.is_set():
            self._tell("Warning", "NetworkNotReady", f"network is not ready: {network.reason}")
            await network.ready.wait()
        for container in self._init():
            container.again()
        self.housing.plan()
        self._save()
        sandbox = await self.housing.make()
        self._changed()
        return sandbox

    async def _remove_sandbox(self) -> None:
        """However long it takes: a pod whose network is not torn down may not go."""
        delay = FIRST_DELAY
        while self.housing.id:
            try:
                await self.housing.remove()
                self._changed()
                return
            except (CniError, SandboxError) as error:
                self._tell("Warning", "FailedKillPod", f"error killing pod: {error}")
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _check(self) -> None:
        try:
            await self.housing.check()
        except CniError as error:  # it runs, and may do so well: whoever broke its network is to mend it
            self._tell("Warning", "NetworkCheckFailed", str(error))

    def _as_home(self, sandbox: Sandbox) -> Home:
        place = Place(self._node.name, self._node.host_ips, self.housing.ips)
        return Home(sandbox, self.housing.netns, place)

    # --- the end ------------------------------------------------------------------------------------------------

    async def _stop_containers(self, grace: float) -> None:
        """With `grace` seconds for all of it; sidecars after the others."""
        sandbox = await self.housing.find()
        if sandbox is None or not self.housing.ips:
            return
        home, deadline = self._as_home(sandbox), time.monotonic() + grace
        sidecars = [container for container in self._init() if container.spec.sidecar]
        first = [container for container in self._containers.values() if container not in sidecars]
        await self._stop(home, first, grace)
        await self._stop(home, sidecars, deadline - time.monotonic())

    async def _stop(self, home: Home, containers: Sequence[Container], grace: float) -> None:
        await asyncio.gather(*(container.stop(home, grace) for container in containers))

    # --- what is told -------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._save()
        self._report.changed()

    def _save(self) -> None:
        containers = {name: container.record for name, container in self._containers.items()}
        housing = self.housing
        record = PodRecord(pod=self.pod, sandbox=housing.id, ips=housing.ips, containers=containers)
        self._node.store.save(record)

    def _status(self) -> dict[str, Any]:
        view = PodView(
            pod=self.pod,
            host_ips=self._node.host_ips,
            started=self._started,
            sandboxed=bool(self.housing.ips),
            ips=self.housing.ips,
            containers=[container.view for container in self._main()],
            init_containers=[container.view for container in self._init()],
            over=self._over,
            before=self._report.conditions,
        )
        return pod_status(view, time.time())


async def first_of(work: Coroutine[Any, Any, Any], interruption: Coroutine[Any, Any, Any]) -> bool:
    """Do `work` until it is done, or the interruption comes (True), which cancels it."""
    tasks = [asyncio.create_task(work), asyncio.create_task(interruption)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        interrupted = not tasks[0].done()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not tasks[0].cancelled():
        tasks[0].result()
    return interrupted
