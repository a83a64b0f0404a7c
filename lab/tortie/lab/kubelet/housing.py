"""A pod's sandbox and its network, made and removed as containerd does it: CNI ADD, CHECK and DEL."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tortie.lab.kubelet.cni import INTERFACE, Attachment, Cni
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.records import Store
from tortie.lab.kubelet.sandbox import NAMESPACES, Sandbox, SandboxError, pin_network, unpin_network

NODE_NETWORK = "/proc/1/ns/net"


class Housing:
    """At most one sandbox of a pod at a time. `id` is CNI's container id, empty while there is nothing to remove."""

    def __init__(
        self, pod: Pod, cni: Cni, store: Store, host_ips: Sequence[str], known: tuple[str, tuple[str, ...]]
    ) -> None:
        self.id, self.ips = known
        self.sandbox: Sandbox | None = None
        self._pod = pod
        self._cni = cni
        self._store = store
        self._host_ips = host_ips

    @property
    def host(self) -> bool:
        return self._pod.spec.host_network

    @property
    def netns(self) -> str:
        """Path of the pod's own network namespace; empty if it shares its node's."""
        return "" if self.host else str(self._pin)

    @property
    def attachment(self) -> tuple[str, str] | None:
        """What CNI's garbage collection must leave alone."""
        return (self.id, INTERFACE) if self.id and not self.host else None

    def plan(self) -> None:
        """Choose the id; to be on disk before anything has it."""
        self.id = secrets.token_hex(32)

    async def make(self) -> Sandbox:
        """SandboxError or CniError leave something behind: `remove` clears it away."""
        sandbox = await Sandbox.start(self._store.sandbox(self.id), "" if self.host else self._pod.hostname)
        if self.host:
            self.ips = tuple(self._host_ips)
        else:
            await pin_network(sandbox.pid, self._pin.name)
            result = await self._cni.add(self._attachment())
            self.ips = tuple(sorted((ip["address"].split("/")[0] for ip in result.get("ips", ())), key=_family))
            if not self.ips:
                raise SandboxError("CNI's result has no address")
        self._store.publish(self._pod, self.id, self.netns or NODE_NETWORK, self.ips)
        self.sandbox = sandbox
        return sandbox

    async def find(self) -> Sandbox | None:
        """The complete sandbox of a kubelet before this one, if it lives."""
        if self.sandbox is None and self.id and self.ips:
            self.sandbox = await Sandbox.find(self._store.sandbox(self.id))
        return self.sandbox

    async def check(self) -> None:
        if not self.host:
            await self._cni.check(self._attachment())

    async def remove(self) -> None:
        """Processes, CNI DEL, the namespace. May be called again until it succeeds."""
        if not self.id:
            return
        directory = self._store.sandbox(self.id)
        sandbox = self.sandbox or await Sandbox.find(directory)
        self.ips = ()
        self._store.withdraw(self._pod)
        if sandbox:
            await sandbox.kill()
        self.sandbox = None
        if not self.host:
            await self._cni.delete(self._attachment())
            await unpin_network(self._pin.name)
        shutil.rmtree(directory, ignore_errors=True)
        self.id = ""

    @property
    def _pin(self) -> Path:
        return NAMESPACES / f"cni-{self.id[:32]}"

    def _attachment(self) -> Attachment:
        """As containerd has it; without a namespace (the node was rebooted) CNI_NETNS is empty."""
        metadata = self._pod.metadata
        return Attachment(
            container_id=self.id,
            netns=str(self._pin) if self._pin.exists() else "",
            args=(
                ("IgnoreUnknown", "1"),
                ("K8S_POD_NAMESPACE", metadata.namespace),
                ("K8S_POD_NAME", metadata.name),
                ("K8S_POD_INFRA_CONTAINER_ID", self.id),
                ("K8S_POD_UID", metadata.uid),
            ),
            capabilities={"portMappings": list(port_mappings(self._pod))},
        )


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
