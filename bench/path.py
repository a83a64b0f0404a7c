"""Pod to pod through Tortie ÷ plain kernel routing between the same namespaces: requests, connections, throughput.

Each pod of the pair gets a second veth with an address that no program and no rule of ours concerns; the nodes route
to it. Everything runs on one CPU, so that a ratio compares work done, not how the scheduler felt.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, ratio
from bench.workload import NAMESPACE, pod
from tortie.lab import Lab

CPU = 1
PAIRS = 15
MILLISECONDS = 400
PORT = 7000
MODES = {"rr": "requests per second", "crr": "connections per second", "stream": "throughput"}
SOURCE = Path(__file__).with_name("load.c")


@dataclass(frozen=True)
class Ends:
    """A pair of pods and the addresses of the server, through Tortie and around it."""

    client: str
    server: str
    ours: str
    plain: str


async def figures(lab: Lab) -> list[Figure]:
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "load"
        subprocess.run(["cc", "-O2", "-o", program, SOURCE], check=True)
        for where, nodes in (("same node", ("node1", "node1")), ("across nodes", ("node1", "node2"))):
            async with ends(lab, *nodes) as pair, serving(lab, pair.server, program):
                for mode, what in MODES.items():
                    found.append(await measured(lab, pair, program, mode, f"pod to pod ÷ plain, {what}, {where}"))
    return found


async def measured(lab: Lab, pair: Ends, program: Path, mode: str, name: str) -> Figure:
    ours, plain = [], []
    for number in range(PAIRS + 1):
        sides = [(ours, pair.ours), (plain, pair.plain)]
        for values, address in sides if number % 2 else reversed(sides):
            command = pinned(program, mode, address, str(PORT), str(MILLISECONDS))
            value = float(await lab.pod_exec(pair.client, command))
            if number:  # the first pair warms caches and neighbours
                values.append(value)
    return ratio(name, ours, plain)


def pinned(program: Path, *arguments: str) -> list[str]:
    return ["taskset", "-c", str(CPU), str(program), *arguments]


@asynccontextmanager
async def serving(lab: Lab, server: str, program: Path) -> AsyncIterator[None]:
    command = lab.pod_command(server, pinned(program, "serve", str(PORT)))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def ends(lab: Lab, client_node: str, server_node: str) -> AsyncIterator[Ends]:
    async with pod(lab, "client", client_node), pod(lab, "server", server_node) as address:
        sides = [("client", client_node, "10.99.0.1"), ("server", server_node, "10.99.0.2")]
        try:
            for (name, node, own), (_, other, far) in (sides, reversed(sides)):
                await second_veth(lab, f"{NAMESPACE}/{name}", node, f"plain-{name}", own)
                if node != other:
                    via = str(lab.plan.node(other).v4.ip)
                    await lab.node_exec(node, ["ip", "route", "add", f"{far}/32", "via", via])
            yield Ends(f"{NAMESPACE}/client", f"{NAMESPACE}/server", address, "10.99.0.2")
        finally:
            for name, node, _ in sides:
                await lab.node_exec(node, ["sh", "-c", f"ip link del plain-{name}; ip route flush root 10.99.0.0/16"])


async def second_veth(lab: Lab, name: str, node: str, device: str, address: str) -> None:
    """As a pod's own veth is set up, without programs: proxy ARP for the gateway, a host route, the same MTU."""
    _, record = lab.pod_record(name)
    mtu = (await lab.pod_exec(name, ["cat", "/sys/class/net/eth0/mtu"])).strip()
    script = f"""
        set -e
        ip link add {device} mtu {mtu} type veth peer name plain mtu {mtu}
        ip link set plain netns {Path(record["netns"]).name}
        sysctl -qw net.ipv4.conf.{device}.proxy_arp=1 net.ipv4.conf.{device}.forwarding=1
        sysctl -qw net.ipv4.neigh.{device}.proxy_delay=0
        ip link set {device} up
        ip route add {address}/32 dev {device}
    """
    await lab.node_exec(node, ["sh", "-c", script])
    inside = f"""
        set -e
        ip link set plain up
        ip address add {address}/32 dev plain
        ip route add 169.254.2.1 dev plain
        ip route add 10.99.0.0/16 via 169.254.2.1 src {address}
    """
    await lab.pod_exec(name, ["sh", "-c", inside])
