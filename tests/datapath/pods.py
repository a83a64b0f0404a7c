"""A node's kernel with pods, as reconcilers and CNI server make it: namespaces, veths, an echo server in each pod."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from pyroute2 import AsyncIPRoute

from tortie.nodeagent.desired import (
    GATEWAY6,
    HOST_MAC,
    HOST_SYSCTLS,
    HOST_SYSCTLS6,
    WORKLOAD_SYSCTLS,
    WORKLOAD_SYSCTLS6,
    Datapath,
    DatapathEndpoint,
    Link,
    Links,
    Route,
    Routes,
    State,
)
from tortie.nodeagent.kernel.bpf import BpfReconciler
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.links import LinksReconciler
from tortie.nodeagent.kernel.monitor import Monitor
from tortie.nodeagent.kernel.policy import Policy, PolicyReconciler
from tortie.nodeagent.kernel.reconcile import Convergence, Message
from tortie.nodeagent.kernel.routes import RoutesReconciler
from tortie.nodeagent.maps.filters import guarded
from tortie.nodeagent.policy.image import Image

from .policies import permissive

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
NODE, NODE6 = "192.0.2.1", "2001:db8::1"
PORT = 7
ECHO = """
import socket, threading
def tcp():
    listener = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        peer, _ = listener.accept()
        while data := peer.recv(1 << 16):
            peer.sendall(data)
        peer.close()
threading.Thread(target=tcp, daemon=True).start()
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 7))
print(flush=True)
while True:
    data, peer = udp.recvfrom(2048)
    udp.sendto(data, peer)
"""


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def js(command: str) -> list[dict[str, Any]]:
    return json.loads(sh(command) or "[]")


async def until(condition: Callable[[], Any], within: float = 1.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.01)


def drift() -> float:
    return REGISTRY.get_sample_value("tortie_drift_repaired_total", {"subsystem": "bpf"}) or 0.0


def datagrams(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


def echoes(probe: socket.socket, address: str, within: float = 0.15) -> bool:
    probe.settimeout(within)
    try:
        probe.sendto(b"0", (address, PORT))
        return probe.recv(64) == b"0"
    except OSError:
        return False


@dataclass
class Pod:
    """Its host device is `cali<number>` and starts down, as the CNI server leaves it."""

    number: int
    process: subprocess.Popen[bytes]
    mac: str = ""

    @classmethod
    def start(cls, number: int) -> Pod:
        process = subprocess.Popen(["unshare", "-n", sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        pod = cls(number, process)
        sh(f"ip link add {pod.ifname} address {HOST_MAC} type veth peer name eth0 netns {process.pid}")
        pod.sh(
            f"ip link set lo up; ip addr add {pod.ipv4}/32 dev eth0; ip -6 addr add {pod.ipv6}/128 dev eth0 nodad;"
            f"ip link set eth0 up; ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1;"
            f"ip -6 route add default via {GATEWAY6} dev eth0"
        )
        pod.mac = json.loads(pod.sh("ip -j link show dev eth0"))[0]["address"]
        return pod

    @property
    def ifname(self) -> str:
        return f"cali{self.number}"

    @property
    def ifindex(self) -> int:
        return socket.if_nametoindex(self.ifname)

    @property
    def ipv4(self) -> str:
        return f"10.65.0.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd65::{self.number}"

    def endpoint(self, state: State = "OPEN") -> DatapathEndpoint:
        return DatapathEndpoint(self.ifname, state, self.ipv4, self.ipv6, self.mac)

    def sh(self, command: str) -> str:
        return sh(f"nsenter -t {self.process.pid} -n sh -c '{command}'")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread in the pod's namespace: sockets that are made there stay there."""
        home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(self._ns, os.O_RDONLY)
        try:
            assert not LIBC.setns(there, CLONE_NEWNET)
            yield
        finally:
            assert not LIBC.setns(home, CLONE_NEWNET)
            os.close(home)
            os.close(there)

    @property
    def _ns(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"

    def send(self, frame: bytes) -> None:
        """An Ethernet frame from the pod's end, past everything that the pod's kernel would say to it."""
        with self.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
            raw.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS: malformed frames, too
            raw.bind(("eth0", 0))
            raw.send(frame)

    def answers(self, address: str = "", *, mark: int = 0) -> bool:
        """Whether its echo server returns a datagram to this node."""
        address = address or self.ipv4
        with datagrams(address) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            return echoes(probe, address)

    def reaches(self, address: str) -> bool:
        """Whether the echo server there returns a datagram to this pod."""
        with self.inside():
            probe = datagrams(address)
        with probe:
            return echoes(probe, address)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def index(device: str) -> int:
    """0: there is no such device."""
    return {name: number for number, name in socket.if_nameindex()}.get(device, 0)


@dataclass
class Node:
    """bpf, policy, links and routes, in the agent's order."""

    convergence: Convergence
    reconciler: BpfReconciler
    task: asyncio.Task[None] | None = None

    def want(
        self, *endpoints: DatapathEndpoint, nodes: tuple[str, ...] = (NODE, NODE6), image: Image | None = None
    ) -> None:
        """Without an image everybody may do everything."""
        names = [endpoint.ifname for endpoint in endpoints]
        links = {name: Link(name, HOST_MAC, 1500, frozenset({f"{GATEWAY6}/64"})) for name in names}
        sysctls = HOST_SYSCTLS | HOST_SYSCTLS6
        for name in names:
            sysctls |= {path.format(name): value for path, value in (WORKLOAD_SYSCTLS | WORKLOAD_SYSCTLS6).items()}
        routes = {(f"{e.ipv4}/32", 1024): Route("unicast", e.ifname, link_scope=True) for e in endpoints}
        routes |= {(f"{e.ipv6}/128", 1024): Route("unicast", e.ifname) for e in endpoints if e.ipv6}
        desired = {
            "bpf": Datapath(frozenset(endpoints), nodes),
            "policy": Policy(image or permissive(endpoints), {name: index(name) for name in names if index(name)}),
            "links": Links(links, sysctls),
            "routes": Routes(80, routes),
        }
        for subsystem in self.convergence.subsystems:
            subsystem.want(desired[subsystem.reconciler.subsystem])
        self.convergence.wake()

    @property
    def errors(self) -> dict[str, str]:
        return {error.item: error.message for error in self.convergence.errors}

    def settled(self) -> bool:
        return all(s.reached is s.desired and not s.errors for s in self.convergence.subsystems)

    async def settle(self, within: float = 3.0) -> None:
        await until(self.settled, within)

    async def intact(self, within: float = 1.0) -> None:
        """Until what is read from the kernel is what is desired."""
        deadline = time.monotonic() + within
        subsystem = self.convergence.subsystems[0]
        while batch := self.reconciler.diff(subsystem.desired, await self.reconciler.read()):
            assert time.monotonic() < deadline, batch
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(bpf_dir: Path, bpffs: Path) -> AsyncIterator[Node]:
    """An agent's kernel side, from start to stop."""
    async with AsyncIPRoute() as route:
        devices = Devices()

        def observe(message: Message) -> None:
            devices.observe(message)
            convergence.observe(message)

        with Monitor(observe, lambda: convergence.lost()) as monitor:
            convergence = Convergence(monitor.drain, monitor.drain)
            await devices.read(route)
            reconciler = BpfReconciler(bpf_dir, bpffs)
            convergence.add(reconciler)
            convergence.add(PolicyReconciler(bpffs))
            convergence.add(LinksReconciler(route, devices, guarded))
            convergence.add(RoutesReconciler(route, devices))
            task = asyncio.create_task(convergence.run())
            try:
                yield Node(convergence, reconciler, task)
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()


class Stream:
    """A datagram to the pod and back every millisecond or so, as long as it is open."""

    def __init__(self, address: str) -> None:
        self._socket = datagrams(address)
        self._socket.connect((address, PORT))
        self._socket.settimeout(0.3)
        self._stopping = threading.Event()
        self.sent, self.returned = 0, set[int]()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def lost(self) -> int:
        assert self.sent > 100
        return self.sent - len(self.returned)

    def _send(self) -> None:
        while not self._stopping.is_set():
            self._socket.send(str(self.sent).encode())
            self.sent += 1
            time.sleep(0.001)

    def _receive(self) -> None:
        while True:
            try:
                self.returned.add(int(self._socket.recv(64)))
            except TimeoutError:
                if self._stopping.is_set():
                    return
            except OSError:
                continue
