"""The plugin with the whole agent, its API server down: what ADD promises is so in the kernel, and soon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

import msgspec
import pytest

from tortie.api.internal import Endpoint, veth_name
from tortie.nodeagent.adoption import KINDS
from tortie.nodeagent.last import Kept, LastObjects, restored

from .runtime import Pod, Runtime, inside, runtime
from .test_reconcile_process import ECHO, Host, objects, until

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(200)]

PODS = [Pod(f"c{number}", name=f"web-{number}", uid=f"u{number}") for number in range(110)]
"""As many as a kubelet takes by default."""


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def address(pod: Pod, version: int = 4) -> str:
    number = int(pod.uid[1:]) + 2
    return f"10.65.0.{number}" if version == 4 else f"fd65::{number}"


def remember(home: Path) -> None:
    """A node whose operator has given addresses to all of PODS."""
    known = objects()
    own, other = known["nodepeers"]
    endpoints = tuple(
        Endpoint(name=f"default/{pod.name}", uid=pod.uid, addresses=(address(pod), address(pod, 6))) for pod in PODS
    )
    blocks = ("10.65.0.0/24", "fd65::/120")
    spec = msgspec.structs.replace(own.spec, endpoints=endpoints, blocks=blocks)
    known["nodepeers"] = [msgspec.structs.replace(own, spec=spec), other]
    last = LastObjects(home / "state" / "last.db")
    for kind in KINDS:
        last.touch(kind)
    last.save(restored({kind: Kept(20, 20, known.get(kind, [])) for kind in KINDS}))


class Node:
    def __init__(self, host: Host, rt: Runtime) -> None:
        self.host = host
        self.rt = rt
        self.agent = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        agent = self.host.start()
        until(self.host.ready)
        return agent

    def add(self, pod: Pod, **config: Any) -> Any:
        self.rt.start(pod)
        status, answer = asyncio.run(self.rt.add(pod, **config))
        assert status == 0, answer
        return answer

    def check(self, pod: Pod) -> tuple[int, Any]:
        return asyncio.run(self.rt.check(pod))

    def delete(self, pod: Pod) -> None:
        assert asyncio.run(self.rt.delete(pod)) == (0, None)

    def echo(self, pod: Pod) -> None:
        """An echo server in the pod; returns once it listens."""
        command = ["nsenter", f"--net={self.rt.sandbox(pod.container)}", sys.executable, "-c", ECHO]
        self.host.processes.append(subprocess.Popen(command))
        until(lambda: ":7 " in inside(self.rt.sandbox(pod.container), "ss -Hlun"))


@pytest.fixture
def node(tmp_path: Path, own_network: None) -> Iterator[Node]:
    sh("ip link add uplink type veth peer name other")
    sh("ip addr add 192.0.2.1/24 dev uplink; ip addr add 2001:db8::1/64 dev uplink nodad")
    sh("ip link set uplink up; ip link set other up; ip route add default via 192.0.2.254")
    (tmp_path / "bpffs").mkdir()
    sh(f"mount -t bpf bpf {tmp_path}/bpffs")
    remember(tmp_path)
    host = Host(tmp_path)
    with runtime(tmp_path) as rt:
        try:
            yield Node(host, rt)
        finally:
            for process in host.processes:
                process.kill()
                process.wait()
            sh(f"umount {tmp_path}/bpffs")


def answers(target: str, within: float = 0.3) -> bool:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(within)
        try:
            probe.sendto(b"0", (target, 7))
            return probe.recv(64) == b"0"
        except OSError:
            return False


def test_an_attached_pod_is_reached_at_once_and_can_be_checked(node: Node) -> None:
    pod = PODS[0]
    node.add(pod)
    assert node.check(pod) == (0, None)
    node.echo(pod)
    assert answers(address(pod))
    assert answers(address(pod, 6))
    veth = veth_name("default", pod.name)
    assert "from_pod" in sh(f"tc filter show dev {veth} ingress")
    assert "to_pod" in sh(f"tc filter show dev {veth} egress")


def test_two_pods_reach_each_other_and_the_node(node: Node) -> None:
    one, two = PODS[:2]
    node.add(one)
    node.add(two)
    node.echo(two)
    ask = (
        "import socket; s = socket.socket(socket.{}, socket.SOCK_DGRAM); s.settimeout(2);"
        "s.sendto(b'0', ('{}', 7)); print(s.recv(9))"
    )
    for family, version in (("AF_INET", 4), ("AF_INET6", 6)):
        program = ask.format(family, address(two, version))
        assert "b'0'" in inside(node.rt.sandbox(one.container), f'{sys.executable} -c "{program}"')


def test_what_is_deleted_is_gone_from_the_kernel(node: Node) -> None:
    pod = PODS[0]
    before = sh("ip -j link; ip route; ip -6 route")
    node.add(pod)
    node.delete(pod)
    until(lambda: address(pod) not in sh("ip route"), within=2)
    assert sh("ip -j link; ip route; ip -6 route") == before
    assert not list((node.host.home / "run" / "endpoints").iterdir())


def test_a_late_del_leaves_the_new_sandbox_reachable(node: Node) -> None:
    pod = PODS[0]
    later = replace(pod, container="later")
    node.add(pod)
    node.rt.stop(pod)
    node.add(later)
    node.echo(later)
    node.delete(pod)
    assert node.check(later) == (0, None)
    assert answers(address(pod))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_known_pod_restarts_though_operator_and_api_server_are_down(node: Node, number: signal.Signals) -> None:
    first, second = PODS[:2]
    node.add(first)
    node.agent.send_signal(number)
    node.agent.wait()
    failed, answer = asyncio.run(node.rt.delete(first))
    assert (failed, answer["code"]) == (1, 11)
    node.start()
    assert node.check(first) == (0, None)
    node.delete(first)
    node.add(second)
    node.add(replace(first, container="again"))
    node.echo(replace(first, container="again"))
    assert answers(address(first))


def test_the_conflist_that_the_agent_writes_is_enough(node: Node) -> None:
    conflist = json.loads((node.host.home / "net.d" / "10-tortie.conflist").read_text())
    plugin = conflist["plugins"][0]
    assert (node.host.home / "bin" / plugin["type"]).read_bytes() == Path("build/cni/tortie").read_bytes()
    for version in conflist["cniVersions"]:
        pod = replace(PODS[3], container=f"v{version[0]}{version[2]}")
        node.rt.start(pod)
        config = plugin | {"name": conflist["name"], "cniVersion": version}
        status, answer = asyncio.run(node.rt.execute("ADD", node.rt.variables(pod), config))
        assert (status, answer["cniVersion"]) == (0, version)


def test_add_is_quick_however_many_pods_there_are(node: Node) -> None:
    """From the plugin's start to its end. The budget, 50 ms at P99, is the benchmark's to judge; what would take ten
    times as long is broken, whoever else is at work here."""

    async def timed(pod: Pod) -> float:
        began = time.perf_counter()
        status, answer = await node.rt.add(pod)
        assert status == 0, answer
        return time.perf_counter() - began

    async def one_by_one() -> list[float]:
        return [await timed(pod) for pod in PODS]

    for pod in PODS:
        node.rt.start(pod)
    took = asyncio.run(one_by_one())
    assert node.check(PODS[-1]) == (0, None)
    assert "repaired" not in node.host.log(), "nobody broke anything"
    cuts = quantiles(took, n=100)
    print(f"ADD: P50 {cuts[49] * 1e3:.1f} ms, P99 {cuts[98] * 1e3:.1f} ms, load {os.getloadavg()[0]:.1f}")
    assert cuts[49] < 0.5
