"""What a container runtime does around CNI: sandboxes, and the plugin executed with its variables and configuration."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from tortie.api.internal import Attach, Endpoint
from tortie.nodeagent.cni.server import Server
from tortie.nodeagent.endpoints import EndpointRecord, EndpointStore
from tortie.nodeagent.network import EntryError, EntryMissing

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "build" / "cni" / "tortie"
CLONE_NEWNET, MS_BIND, MNT_DETACH = 0x40000000, 0x1000, 2
LIBC = ctypes.CDLL(None, use_errno=True)
Document = dict[str, Any]


def checked(code: int) -> None:
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make_sandbox(path: Path) -> Path:
    """A network namespace that lives as long as `path` is mounted, as runtimes keep theirs."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    checked(LIBC.unshare(CLONE_NEWNET))
    try:
        checked(LIBC.mount(b"/proc/thread-self/ns/net", bytes(path), None, MS_BIND, None))
    finally:
        checked(LIBC.setns(home, CLONE_NEWNET))
        os.close(home)
    return path


def remove_sandbox(path: Path) -> None:
    if path.exists():
        LIBC.umount2(bytes(path), MNT_DETACH)
        path.unlink()


def inside(path: Path, command: str) -> str:
    shell = ["nsenter", f"--net={path}", "sh", "-c", command]
    return subprocess.run(shell, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Pod:
    """A pod's sandbox, as the kubelet would ask for it."""

    container: str
    name: str = "web"
    uid: str = "uid-web"
    namespace: str = "default"


@dataclass
class Runtime:
    home: Path
    version: str = "1.1.0"
    results: dict[str, Document] = field(default_factory=dict)
    """Container → what ADD answered."""

    @property
    def socket(self) -> Path:
        return self.home / "run" / "cni.sock"

    def sandbox(self, container: str) -> Path:
        return self.home / "netns" / container

    def start(self, pod: Pod) -> Path:
        return make_sandbox(self.sandbox(pod.container))

    def stop(self, pod: Pod) -> None:
        remove_sandbox(self.sandbox(pod.container))

    def variables(self, pod: Pod, **other: str) -> dict[str, str]:
        args = f"K8S_POD_NAMESPACE={pod.namespace};K8S_POD_NAME={pod.name};K8S_POD_UID={pod.uid}"
        return {
            "CNI_CONTAINERID": pod.container,
            "CNI_NETNS": str(self.sandbox(pod.container)),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;{args};K8S_POD_INFRA_CONTAINER_ID={pod.container}",
        } | other

    def config(self, **other: Any) -> Document:
        given = {"cniVersion": self.version, "name": "k8s-pod-network", "type": "tortie", "socket": str(self.socket)}
        return given | other

    async def execute(self, command: str, variables: dict[str, str], stdin: Document | bytes) -> tuple[int, Any]:
        """Exit status, and what was printed (None: nothing)."""
        process = await asyncio.create_subprocess_exec(
            PLUGIN,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": str(PLUGIN.parent)} | variables,
        )
        printed, _ = await process.communicate(stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode())
        return process.returncode or 0, json.loads(printed) if printed else None

    async def add(self, pod: Pod, **config: Any) -> tuple[int, Any]:
        status, answer = await self.execute("ADD", self.variables(pod), self.config(**config))
        if status == 0:
            self.results[pod.container] = answer
        return status, answer

    async def delete(self, pod: Pod, **variables: str) -> tuple[int, Any]:
        known = self.results.get(pod.container)
        extra = {"prevResult": known} if known else {}
        return await self.execute("DEL", self.variables(pod, **variables), self.config(**extra))

    async def check(self, pod: Pod, **config: Any) -> tuple[int, Any]:
        previous = {"prevResult": self.results[pod.container]}
        return await self.execute("CHECK", self.variables(pod), self.config(**previous | config))

    async def collect(self, *valid: Pod) -> tuple[int, Any]:
        attachments = [{"containerID": pod.container, "ifname": "eth0"} for pod in valid]
        return await self.execute("GC", {}, self.config(**{"cni.dev/valid-attachments": attachments}))


class Entries:
    """`network.Network` in small: published entries, and a kernel that opens what is attached."""

    def __init__(self, store: EndpointStore, route: AsyncIPRoute) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.unready: str | None = None
        self.pending = False
        """Policy never comes."""
        self.late = False
        """Nothing is opened, and nobody waits for it."""
        self.mtu = 1450
        self._store = store
        self._route = route
        self._news = asyncio.Event()

    def publish(self, pod: Pod, *addresses: str, error: str = "", mac: str = "") -> None:
        name = f"{pod.namespace}/{pod.name}"
        attach = Attach(mac=mac) if mac else None
        self.endpoints[name] = Endpoint(name=name, uid=pod.uid, addresses=addresses, error=error, attach=attach)
        self._news.set()
        self._news = asyncio.Event()

    async def entry(self, namespace: str, name: str, uid: str, timeout: float) -> Endpoint:
        try:
            async with asyncio.timeout(timeout):
                while not (found := self.endpoints.get(f"{namespace}/{name}")) or uid not in ("", found.uid):
                    await self._news.wait()
        except TimeoutError:
            raise EntryMissing(f"no addresses for {namespace}/{name}") from None
        if found.error:
            raise EntryError(found.error)
        return found

    def pod_mtu(self) -> int:
        return self.mtu

    async def converge(self, record: EndpointRecord, timeout: float) -> bool:
        if self.late:
            return False
        try:
            await self._route.link("set", index=record.host_ifindex, state="up")
            for address in record.addresses:
                size = 128 if ":" in address else 32
                await self._route.route("replace", dst=f"{address}/{size}", oif=record.host_ifindex)
        except NetlinkError:  # its device is gone
            return False
        if self.pending:
            await asyncio.sleep(timeout)
        return not self.pending

    def ready(self) -> str | None:
        return self.unready


@dataclass
class Agent:
    entries: Entries
    store: EndpointStore
    server: Server


@contextlib.asynccontextmanager
async def serving(home: Path) -> AsyncIterator[Agent]:
    """The server with its socket in `home`, until it is cancelled as the agent's end would."""
    store = EndpointStore.load(home / "run" / "endpoints")
    async with AsyncIPRoute() as route:
        entries = Entries(store, route)
        server = Server(entries, store, home / "run" / "cni.sock")
        task = asyncio.create_task(server.run())
        await asyncio.wait_for(server.listening.wait(), 5)
        try:
            yield Agent(entries, store, server)
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


@contextlib.contextmanager
def runtime(home: Path) -> Iterator[Runtime]:
    """Its sandboxes are gone afterwards."""
    subprocess.run(["make", "-s", "-C", REPOSITORY / "nodeagent" / "cni"], check=True)
    made = Runtime(home)
    try:
        yield made
    finally:
        for path in (home / "netns").glob("*"):
            remove_sandbox(path)
