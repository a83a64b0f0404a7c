"""The Node object: registered, kept alive by its Lease, and Ready when its network is."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tortie.api.meta import Metadata, Object, Record
from tortie.kube.client import AlreadyExists, ApiError, Client, Conflict, NotFound
from tortie.kube.resources import LEASE, NODE
from tortie.lab.binaries import MODULE, version
from tortie.lab.kubelet.status import timestamp

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS, RENEW_SECONDS = 40, 10
REPORT_SECONDS = 300
"""A status that did not change is written so often, as a kubelet does."""
RETRY_SECONDS = 1.0
CAPACITY = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"}
"""What the scheduler may count on. Nothing is measured or enforced: the pods of a lab ask more than they use."""


class NodeCondition(Record):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class NodeStatus(Record):
    conditions: tuple[NodeCondition, ...] = ()


class Node(Object):
    api_version: str = "v1"
    kind: str = "Node"
    metadata: Metadata = Metadata()
    status: NodeStatus = NodeStatus()


class LeaseSpec(Record):
    holder_identity: str
    lease_duration_seconds: int = 0
    renew_time: str = ""


class LeaseMetadata(Metadata):
    owner_references: tuple[dict[str, str], ...] = ()


class Lease(Object):
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    metadata: LeaseMetadata
    spec: LeaseSpec


def addresses() -> list[str]:
    """The addresses that this machine speaks from, IPv4 first: a connected datagram socket tells, and sends nothing."""
    found = []
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((elsewhere, 9))
            except OSError:
                continue
            found.append(sock.getsockname()[0])
    if not found:
        raise OSError("this machine has no default route, hence no address of its own")
    return found


class NodeKeeper:
    def __init__(self, client: Client, name: str, host_ips: Sequence[str], unready: Callable[[], str | None]) -> None:
        self._client = client
        self._name = name
        self._host_ips = host_ips
        self._unready = unready
        self._changed = asyncio.Event()
        self._uid = ""

    def network_changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            if await self._attempt(self._register, "node is not registered"):
                break
            await asyncio.sleep(RETRY_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_lease())
            tasks.create_task(self._keep_status())

    async def _attempt(self, work: Callable[[], Any], otherwise: str) -> bool:
        try:
            await work()
        except ApiError as error:
            log.warning(otherwise, extra={"error": str(error)})
            return False
        return True

    async def _register(self) -> None:
        labels = {
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        }
        body: dict[str, Any] = {"metadata": {"name": self._name, "labels": labels}}
        listed = [("InternalIP", ip) for ip in self._host_ips] + [("Hostname", self._name)]
        addresses = [{"type": kind, "address": address} for kind, address in listed]
        status: dict[str, Any] = {
            "addresses": addresses,
            "capacity": CAPACITY,
            "allocatable": CAPACITY,
            "nodeInfo": node_info(),
        }
        fresh = {"apiVersion": "v1", "kind": "Node", **body, "status": status | {"conditions": self._conditions({})}}
        try:
            node = await self._client.create(NODE, fresh, type=Node)
        except AlreadyExists:  # a restart changes nothing about how well it is
            node = await self._client.patch(NODE, self._name, body, type=Node)
            status["addresses"] = [{"$patch": "replace"}, *addresses]
            await self._patch_status(status)
        self._uid = node.metadata.uid
        log.info("node is registered", extra={"uid": self._uid, "addresses": list(self._host_ips)})

    def _conditions(self, known: Mapping[str, NodeCondition]) -> list[dict[str, Any]]:
        """What is to be said, beside what the API server has."""
        now = timestamp(time.time())
        if reason := self._unready():
            message = (
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
                f"message:Network plugin returns error: {reason}"
            )
            ready = ("False", "KubeletNotReady", message)
        else:
            ready = ("True", "KubeletReady", "kubelet is posting ready status")
        listed = {
            "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            "Ready": ready,
        }
        return [
            {"type": name, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now}
            | ({} if name in known and known[name].status == status else {"lastTransitionTime": now})
            for name, (status, reason, message) in listed.items()
        ]

    async def _keep_status(self) -> None:
        """Write the conditions when they differ from what the API server has (someone else may judge us, too)."""
        written = time.monotonic()
        while True:
            self._changed.clear()
            try:
                node = await self._client.get(NODE, self._name, type=Node)
                known = {condition.type: condition for condition in node.status.conditions}
                wanted = self._conditions(known)
                if time.monotonic() - written > REPORT_SECONDS or any(_differs(each, known) for each in wanted):
                    await self._patch_status({"conditions": wanted})
                    written = time.monotonic()
                wait: float = RENEW_SECONDS
            except ApiError as error:
                log.warning("node status is not written", extra={"error": str(error)})
                wait = RETRY_SECONDS
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue

    async def _patch_status(self, status: dict[str, Any]) -> None:
        await self._client.patch(
            NODE,
            self._name,
            {"status": status},
            subresource="status",
            type=Node,
            content_type="application/strategic-merge-patch+json",
        )

    async def _keep_lease(self) -> None:
        while True:
            renewed = await self._attempt(self._renew, "lease is not renewed")
            await asyncio.sleep(RENEW_SECONDS if renewed else RETRY_SECONDS)

    async def _renew(self) -> None:
        now = time.time()
        renew_time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._uid}
        spec = LeaseSpec(holder_identity=self._name, lease_duration_seconds=LEASE_SECONDS, renew_time=renew_time)
        try:
            lease = await self._client.get(LEASE, self._name, namespace=LEASE_NAMESPACE, type=Lease)
            renewed = msgspec.structs.replace(lease, spec=spec)
            await self._client.replace(LEASE, renewed, type=Lease)
        except NotFound:
            metadata = LeaseMetadata(name=self._name, namespace=LEASE_NAMESPACE, owner_references=(owner,))
            fresh = Lease(metadata=metadata, spec=spec)
            await self._client.create(LEASE, fresh, namespace=LEASE_NAMESPACE, type=Lease)
        except Conflict:
            log.warning("another kubelet renews the lease of this node")


def _differs(wanted: Mapping[str, Any], known: Mapping[str, NodeCondition]) -> bool:
    have = known.get(wanted["type"])
    return have is None or (have.status, have.reason, have.message) != (
        wanted["status"],
        wanted["reason"],
        wanted["message"],
    )


def node_info() -> dict[str, str]:
    """`status.nodeInfo`; all of its fields are required."""
    system = platform.freedesktop_os_release()
    return {
        "machineID": "",
        "systemUUID": "",
        "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "kernelVersion": os.uname().release,
        "osImage": system.get("PRETTY_NAME", "Linux"),
        "containerRuntimeVersion": "tortie-lab://1",
        "kubeletVersion": version(MODULE),
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": platform.machine(),
    }
