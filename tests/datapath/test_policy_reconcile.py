"""Policy on real packets between pods of a node: live connections, restarts, and what someone breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.policy.image import Image, image

from .pods import NODE, NODE6, PORT, Node, Pod, running, sh, until
from .policies import cluster

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(90)]

PODS = """
{{apiVersion: v1, kind: Namespace, metadata: {{name: red}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: server, namespace: red, labels: {{app: server}}}},
 spec: {{nodeName: n1, containers: []}}, status: {{phase: Running, podIPs: [{{ip: {0.ipv4}}}, {{ip: "{0.ipv6}"}}]}}}}
---
{{apiVersion: v1, kind: Pod, metadata: {{name: client, namespace: red, labels: {{app: client}}}},
 spec: {{nodeName: n1, containers: []}}, status: {{phase: Running, podIPs: [{{ip: {1.ipv4}}}, {{ip: "{1.ipv6}"}}]}}}}
"""
RULE = """
---
{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {{name: p{0}}}, spec: {{order: {0},
 selector: app == 'server', ingress: [{{action: {1}, protocol: TCP, source: {{selector: app == '{2}'}}}}]}}}}
"""
ALLOW, DENY, ELSEWHERE = (
    RULE.format(10, "Allow", "client"),
    RULE.format(1, "Deny", "client"),
    RULE.format(5, "Deny", "x"),
)


@pytest.fixture
def pods(own_network: None) -> Iterator[list[Pod]]:
    """Server and client."""
    sh("ip link add uplink type veth peer name other; ip link set uplink up; ip link set other up")
    sh(f"ip addr add {NODE}/24 dev uplink; ip addr add {NODE6}/64 dev uplink nodad")
    sh("ip route add default via 192.0.2.254; ip -6 route add default dev uplink")
    started = [Pod.start(2), Pod.start(3)]
    yield started
    for pod in started:
        pod.stop()


def policy(pods: list[Pod], text: str) -> Image:
    made = cluster(PODS.format(*pods) + text)
    server, client = pods
    return image(made, {server.ifname: made.workloads["red/server"], client.ifname: made.workloads["red/client"]})


@contextlib.asynccontextmanager
async def agent(bpf_dir: Path, bpffs: Path, pods: list[Pod], text: str) -> AsyncIterator[Node]:
    async with running(bpf_dir, bpffs) as node:
        node.want(*(pod.endpoint() for pod in pods), image=policy(pods, text))
        await node.settle()
        yield node


def connect(client: Pod, address: str, within: float = 0.3) -> socket.socket:
    with client.inside():
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    connection.settimeout(within)
    connection.connect((address, PORT))
    return connection


def connects(client: Pod, address: str) -> bool:
    try:
        connect(client, address).close()
    except OSError:
        return False
    return True


def alive(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
        return connection.recv(64) != b""
    except OSError:
        return False


@pytest.mark.parametrize("family", [4, 6])
async def test_a_live_connection_survives_edits_and_restarts_and_is_cut_by_a_deny(
    pods: list[Pod], bpf_dir: Path, bpffs: Path, family: int
) -> None:
    server, client = pods
    address = server.ipv4 if family == 4 else server.ipv6
    with contextlib.ExitStack() as stack:
        async with agent(bpf_dir, bpffs, pods, ALLOW) as node:
            await until(lambda: connects(client, address), 5)
            line = stack.enter_context(connect(client, address))
            for number in range(10):
                node.want(*(pod.endpoint() for pod in pods), image=policy(pods, ALLOW + ELSEWHERE * (number % 2)))
                await node.settle()
                assert alive(line), number
        assert alive(line)  # without any agent
        async with agent(bpf_dir, bpffs, pods, ALLOW) as node:
            assert alive(line)
            node.want(*(pod.endpoint() for pod in pods), image=policy(pods, ALLOW + DENY))
            await node.settle()
            assert not alive(line)
            assert not connects(client, address)
            node.want(*(pod.endpoint() for pod in pods), image=policy(pods, ALLOW))
            await node.settle()
            await until(lambda: alive(line), 5)  # what was cut goes on where it was


DAMAGE = {
    "words of an endpoint": (layout.POLICIES, "delete"),
    "an address": (layout.ADDRESSES[4], "delete"),
    "an address of IPv6": (layout.ADDRESSES[6], "delete"),
    "the world": (layout.NETS[4], "delete"),
    "words changed": (layout.POLICIES, "change"),
    "a class changed": (layout.ADDRESSES[4], "change"),
    "the switch": (layout.SWITCH, "change"),
    "pins": ("*", "unpin"),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_what_someone_breaks_is_back_within_a_second(
    pods: list[Pod], bpf_dir: Path, bpffs: Path, damage: str
) -> None:
    server, client = pods
    name, how = DAMAGE[damage]
    async with agent(bpf_dir, bpffs, pods, ALLOW) as node:
        await until(lambda: connects(client, server.ipv4), 5)
        pins = Pins(bpffs)
        if how == "unpin":
            sh(f"rm {pins.maps}/*")
        else:
            with pins.table(name) as table:
                for key, value in list(table.items()):
                    if how == "delete":
                        table.delete(key)
                    else:
                        table.put(key, bytes(len(value)) if name == layout.SWITCH else bytes(8) + value[8:])
        await asyncio.sleep(1.0)
        assert connects(client, server.ipv4)
        assert connects(client, server.ipv6)
        assert not connects(server, client.ipv4) or node.settled()
        assert node.settled()


async def test_policy_that_does_not_fit_leaves_the_old_one_in_force_and_says_so(
    pods: list[Pod], bpf_dir: Path, bpffs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pods
    async with agent(bpf_dir, bpffs, pods, ALLOW) as node:
        await until(lambda: connects(client, server.ipv4), 5)
        monkeypatch.setitem(layout.ENTRIES, layout.ROWS, 100)
        node.want(*(pod.endpoint() for pod in pods), image=policy(pods, ALLOW + DENY))
        sub = next(s for s in node.convergence.subsystems if s.reconciler.subsystem == "policy")
        sub.reconciler._actual.columns.placer.rows.free = [(0, 10)]  # type: ignore[attr-defined]
        await until(lambda: "policy" in node.errors)
        assert node.errors["policy"] == "map rows_v1 is full: 524288 entries"
        assert connects(client, server.ipv4)
        monkeypatch.undo()
        await until(lambda: not connects(client, server.ipv4), 3)
        await node.settle()
