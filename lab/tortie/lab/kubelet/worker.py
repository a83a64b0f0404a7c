"""The life of one pod: a sandbox, its containers in it, what the API server is told, and the end.

A pod that is known goes on without the API server: only reports wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tortie.kube.client import ApiError, Client, Conflict, NotFound
from tortie.kube.resources import POD
from tortie.lab.kubelet.cni import INTERFACE, Attachment, Cni, CniError
from tortie.lab.kubelet.command import Place
from tortie.lab.kubelet.container import Container, Home
from tortie.lab.kubelet.events import Events
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.network import Network
from tortie.lab.kubelet.probes import Prober
from tortie.lab.kubelet.records import ContainerRecord, PodRecord, Store
from tortie.lab.kubelet.sandbox import NAMESPACES, Sandbox, SandboxError, pin_network, unpin_network
from tortie.lab.kubelet.status import PodView, pod_status

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 1.0, 10.0
"""Seconds between two attempts at a sandbox, and at anything that must succeed before a pod may go."""
NODE_NETWORK = "/proc/1/ns/net"


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
        self._sandbox: Sandbox | None = None
        self._sandbox_id = record.sandbox if record else ""
        self._ips = record.ips if record else ()
        self._containers = self._make_containers(pod, record)
        self._started = time.time()
        self._over = False
        self._ending = asyncio.Event()
        self._gone = False
        """The API server has no such pod any more."""
        self._news = asyncio.Event()
        self._reported: dict[str, Any] = {}
        self._conditions = {each.type: (each.status, each.last_transition_time) for each in pod.status.conditions}
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

    @property
    def attachment(self) -> tuple[str, str] | None:
        """What CNI's garbage collection must leave alone."""
        return (self._sandbox_id, INTERFACE) if self._sandbox_id and not self.pod.spec.host_network else None

    def update(self, pod: Pod) -> None:
        self.pod = pod
        if pod.metadata.deletion_timestamp:
            self._ending.set()

    def remove(self) -> None:
        self._gone = True
        self._ending.set()
        self._news.set()

    # --- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Return when nothing of the pod is left on this node and the API server knows, or has no such pod."""
        reporting = asyncio.create_task(self._report(), name=f"report {self.pod.metadata.key}")
        try:
            if not self.pod.ended:
                self._changed()
                await self._live_until_ended()
            if self._ending.is_set():
                await self._stop_containers(self.pod.grace)
            self._over = True
            self._changed()
            await self._remove_sandbox()
            await self._conclude()
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting
        self._node.store.forget(self.pod)

    async def _live_until_ended(self) -> None:
        """By itself, or because the pod is to go."""
        await first_of(self._live(), self._ending.wait())

    async def _live(self) -> None:
        while True:
            home = await self._home()
            if not await first_of(self._run_containers(home), home.sandbox.dead.wait()):
                return
            self._tell("Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            for container in self._containers.values():
                container.lost()
            await self._remove_sandbox()
            policy = self.pod.spec.restart_policy
            if all(container.ended_for_good(policy) for container in self._main()):
                return

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
        if self._sandbox_id and self._ips:
            self._sandbox = await Sandbox.find(self._node.store.sandbox(self._sandbox_id))
            if self._sandbox:
                await self._check()
                return self._as_home(self._sandbox)
        delay = FIRST_DELAY
        while True:
            await self._remove_sandbox()
            try:
                self._sandbox = await self._make_sandbox()
                return self._as_home(self._sandbox)
            except (SandboxError, CniError) as error:
                message = f"Failed to create pod sandbox: {error}"
                self._tell("Warning", "FailedCreatePodSandBox", message)
                for container in self._containers.values():
                    container.wait(container.state.reason, message)  # type: ignore[union-attr]
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _make_sandbox(self) -> Sandbox:
        host = self.pod.spec.host_network
        if not host and not self._node.network.ready.is_set():
            self._tell("Warning", "NetworkNotReady", f"network is not ready: {self._node.network.reason}")
            await self._node.network.ready.wait()
        for container in self._init():
            container.again()
        self._sandbox_id = secrets.token_hex(32)
        self._save()
        sandbox = await Sandbox.start(self._node.store.sandbox(self._sandbox_id), "" if host else self.pod.hostname)
        if host:
            self._ips = tuple(self._node.host_ips)
        else:
            await pin_network(sandbox.pid, self._netns.name)
            result = await self._node.cni.add(self._attachment())
            self._ips = tuple(sorted((ip["address"].split("/")[0] for ip in result.get("ips", ())), key=_family))
            if not self._ips:
                raise SandboxError("CNI's result has no address")
        self._changed()
        return sandbox

    async def _remove_sandbox(self) -> None:
        """As containerd does: processes, CNI DEL until it succeeds, the namespace."""
        if not self._sandbox_id:
            return
        directory = self._node.store.sandbox(self._sandbox_id)
        sandbox = self._sandbox or await Sandbox.find(directory)
        self._ips = ()
        self._node.store.withdraw(self.pod)
        if sandbox:
            await sandbox.kill()
        self._sandbox = None
        if not self.pod.spec.host_network:
            await self._insist(lambda: self._node.cni.delete(self._attachment()), "FailedKillPod")
            await self._insist(lambda: unpin_network(self._netns.name), "FailedKillPod")
        shutil.rmtree(directory, ignore_errors=True)
        self._sandbox_id = ""
        self._changed()

    async def _check(self) -> None:
        if self.pod.spec.host_network:
            return
        try:
            await self._node.cni.check(self._attachment())
        except CniError as error:  # it runs, and may do so well: whoever broke its network is to mend it
            self._tell("Warning", "NetworkCheckFailed", str(error))

    async def _insist(self, work: Callable[[], Coroutine[Any, Any, None]], reason: str) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                await work()
                return
            except (CniError, SandboxError) as error:
                self._tell("Warning", reason, f"error killing pod: {error}")
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    @property
    def _netns(self) -> Path:
        return NAMESPACES / f"cni-{self._sandbox_id[:32]}"

    def _attachment(self) -> Attachment:
        """As containerd has it; without a namespace (the node was rebooted) CNI_NETNS is empty."""
        metadata = self.pod.metadata
        return Attachment(
            container_id=self._sandbox_id,
            netns=str(self._netns) if self._netns.exists() else "",
            args=(
                ("IgnoreUnknown", "1"),
                ("K8S_POD_NAMESPACE", metadata.namespace),
                ("K8S_POD_NAME", metadata.name),
                ("K8S_POD_INFRA_CONTAINER_ID", self._sandbox_id),
                ("K8S_POD_UID", metadata.uid),
            ),
            capabilities={"portMappings": list(port_mappings(self.pod))},
        )

    def _as_home(self, sandbox: Sandbox) -> Home:
        netns = "" if self.pod.spec.host_network else str(self._netns)
        return Home(sandbox, netns, Place(self._node.name, self._node.host_ips, self._ips))

    # --- the end ------------------------------------------------------------------------------------------------

    async def _stop_containers(self, grace: float) -> None:
        """With `grace` seconds for all of it."""
        if self._sandbox is None and self._sandbox_id:
            self._sandbox = await Sandbox.find(self._node.store.sandbox(self._sandbox_id))
        if self._sandbox is None or not self._ips:
            return
        home, deadline = self._as_home(self._sandbox), time.monotonic() + grace
        sidecars = [container for container in self._init() if container.spec.sidecar]
        first = [container for container in self._containers.values() if container not in sidecars]
        await self._stop(home, first, grace)
        await self._stop(home, sidecars, deadline - time.monotonic())

    async def _stop(self, home: Home, containers: Sequence[Container], grace: float) -> None:
        await asyncio.gather(*(container.stop(home, grace) for container in containers))

    async def _conclude(self) -> None:
        """Nothing of the pod is left here: the last status, then, if it is being deleted, its object may go."""
        delay = FIRST_DELAY
        metadata = self.pod.metadata
        while not self._gone:
            try:
                if not self.pod.ended or self._ending.is_set():
                    await self._send(self._status())
                if self._ending.is_set():
                    await self._node.client.delete(
                        POD, metadata.name, namespace=metadata.namespace, uid=metadata.uid, grace=0
                    )
                return
            except (NotFound, Conflict):  # gone, or another one has the name
                return
            except ApiError as error:
                log.warning("the end of a pod is not reported", extra={"pod": metadata.key, "error": str(error)})
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    # --- what is told -------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._save()
        self._news.set()

    def _save(self) -> None:
        containers = {name: container.record for name, container in self._containers.items()}
        record = PodRecord(pod=self.pod, sandbox=self._sandbox_id, ips=self._ips, containers=containers)
        self._node.store.save(record, NODE_NETWORK if self.pod.spec.host_network else str(self._netns))

    def _status(self) -> dict[str, Any]:
        view = PodView(
            pod=self.pod,
            host_ips=self._node.host_ips,
            started=self._started,
            sandboxed=bool(self._ips),
            ips=self._ips,
            containers=[container.view for container in self._main()],
            init_containers=[container.view for container in self._init()],
            over=self._over,
            before=self._conditions,
        )
        return pod_status(view, time.time())

    async def _report(self) -> None:
        """Whenever it differs from what was said last; without an API server, once there is one."""
        while True:
            await self._news.wait()
            self._news.clear()
            status = self._status()
            if status == self._reported or self.pod.ended:
                continue
            try:
                await self._send(status)
            except (NotFound, Conflict):
                self._reported = status  # its end is on its way by the watch
            except ApiError as error:
                log.warning("status is not written", extra={"pod": self.pod.metadata.key, "error": str(error)})
                self._news.set()
                await asyncio.sleep(FIRST_DELAY)

    async def _send(self, status: dict[str, Any]) -> None:
        metadata = self.pod.metadata
        await self._node.client.patch(
            POD,
            metadata.name,
            {"metadata": {"uid": metadata.uid}, "status": status},
            namespace=metadata.namespace,
            subresource="status",
            type=Pod,
            content_type="application/strategic-merge-patch+json",
        )
        self._reported = status
        self._conditions = {each["type"]: (each["status"], each["lastTransitionTime"]) for each in status["conditions"]}


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


def port_mappings(pod: Pod) -> Iterator[dict[str, Any]]:
    """The host ports, as containerd gives them to the plugin that declares the capability."""
    for container in pod.spec.containers:
        for port in container.ports:
            if port.host_port:
                yield {
                    "hostPort": port.host_port,
                    "containerPort": port.container_port,
                    "protocol": port.protocol.lower(),
                    "hostIP": port.host_ip,
                }


def _family(address: str) -> int:
    """IPv4 first; a stable sort keeps the plugin's order within a family."""
    return 6 if ":" in address else 4
