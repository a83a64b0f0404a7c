"""The reconcilers against the real kernel: what is desired comes, comes back, and nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pyroute2 import AsyncIPRoute

from tortie.api.internal import tunnel_mac
from tortie.nodeagent.desired import (
    HOST_MAC,
    WORKLOAD_SYSCTLS,
    WORKLOAD_SYSCTLS6,
    Link,
    Links,
    Neighbours,
    Route,
    Routes,
    Table,
    Vxlan,
)
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.links import LinksReconciler
from tortie.nodeagent.kernel.monitor import Monitor
from tortie.nodeagent.kernel.neighbours import NeighboursReconciler
from tortie.nodeagent.kernel.nft import NftReconciler
from tortie.nodeagent.kernel.reconcile import Convergence, Message
from tortie.nodeagent.kernel.routes import RoutesReconciler

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(60)]

VETH = "cali0123456789a"
TUNNEL = Link(
    "vxlan.calico", tunnel_mac("a"), 1450, frozenset({"10.65.0.1/32"}), Vxlan(4096, 4789, "192.0.2.1", "uplink")
)
TUNNEL6 = Link(
    "vxlan-v6.calico", tunnel_mac("a"), 1430, frozenset({"fd65::1/128"}), Vxlan(4096, 4789, "2001:db8::1", "uplink")
)
POD = Link(VETH, HOST_MAC, 1430, frozenset({"fe80::ecee:eeff:feee:eeee/64"}))
LINKS = Links(
    {link.name: link for link in (TUNNEL, TUNNEL6, POD)},
    {"net/ipv4/ip_forward": "1"}
    | {path.format(VETH): value for path, value in (WORKLOAD_SYSCTLS | WORKLOAD_SYSCTLS6).items()},
)
ROUTES = Routes(
    80,
    {
        ("10.65.0.0/26", 1024): Route("unreachable"),
        ("10.65.0.2/32", 1024): Route("unicast", VETH, link_scope=True),
        ("10.65.1.0/26", 1024): Route("unicast", "vxlan.calico", "10.65.1.1", onlink=True),
        ("10.65.2.0/26", 1024): Route("unicast", "uplink", "192.0.2.2"),
        ("fd65::/122", 1024): Route("unreachable"),
        ("fd65::2/128", 1024): Route("unicast", VETH),
        ("fd65::100/122", 1024): Route("unicast", "vxlan-v6.calico", "fd65::101", onlink=True),
        ("fd65::200/122", 1024): Route("unicast", "uplink", "2001:db8::2"),
    },
)
NEIGHBOURS = Neighbours(
    {
        ("vxlan.calico", "10.65.1.1"): tunnel_mac("b"),
        ("vxlan-v6.calico", "fd65::101"): tunnel_mac("b"),
    },
    {
        ("vxlan.calico", tunnel_mac("b")): "192.0.2.2",
        ("vxlan-v6.calico", tunnel_mac("b")): "2001:db8::2",
    },
)
TABLE = Table(("10.65.0.0/16",), ("10.65.0.0/16",), ("10.65.0.0/16",))


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def js(command: str) -> list[dict[str, Any]]:
    return json.loads(sh(command) or "[]")


def drift(subsystem: str) -> float:
    return REGISTRY.get_sample_value("tortie_drift_repaired_total", {"subsystem": subsystem}) or 0.0


@dataclass
class Node:
    convergence: Convergence
    devices: Devices
    desired: dict[str, Any]
    task: asyncio.Task[None] | None = None

    def want(self, **desired: Any) -> None:
        self.desired |= desired
        for subsystem in self.convergence.subsystems:
            subsystem.want(self.desired[subsystem.reconciler.subsystem])
        self.convergence.wake()

    def pending(self) -> list[str]:
        return [s.reconciler.subsystem for s in self.convergence.subsystems if s.reached is not s.desired or s.errors]

    async def settle(self, within: float = 3.0) -> None:
        async with asyncio.timeout(within):
            await asyncio.sleep(0.02)
            while self.pending():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Node]:
    """All reconcilers but eBPF, wanting what is above."""
    async with AsyncIPRoute() as route:
        devices = Devices()

        def observe(message: Message) -> None:
            devices.observe(message)
            convergence.observe(message)

        with Monitor(observe, lambda: convergence.lost()) as monitor:
            convergence = Convergence(monitor.drain, monitor.drain)
            await devices.read(route)
            convergence.add(NftReconciler())
            convergence.add(LinksReconciler(route, devices, lambda index: True))
            convergence.add(NeighboursReconciler(route, devices))
            convergence.add(RoutesReconciler(route, devices))
            node = Node(convergence, devices, {})
            node.task = task = asyncio.create_task(convergence.run())
            node.want(links=LINKS, routes=ROUTES, neighbours=NEIGHBOURS, nft=TABLE)
            try:
                yield node
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()


@pytest.fixture
def uplink(own_network: None) -> None:
    sh("ip link add uplink type veth peer name other")
    sh("ip addr add 192.0.2.1/24 dev uplink; ip addr add 2001:db8::1/64 dev uplink nodad")
    sh("ip link set uplink up; ip link set other up")
    sh(f"ip link add {VETH} type veth peer name pod0; ip link set pod0 up")


@pytest.fixture
async def node(uplink: None) -> AsyncIterator[Node]:
    async with running() as started:
        await started.settle()
        yield started


def routes() -> dict[str, str]:
    """Our routes as ip(8) prints them."""
    lines = [*sh("ip route show proto 80").splitlines(), *sh("ip -6 route show proto 80").splitlines()]
    return {line.removeprefix("unreachable ").split()[0]: " ".join(line.split()) for line in lines}


async def until(condition: Any, within: float = 1.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_everything_desired_is_there(node: Node) -> None:
    tunnel = js("ip -j -d addr show dev vxlan.calico")[0]
    info = tunnel["linkinfo"]["info_data"]
    assert (info["id"], info["port"], info["local"], info["link"], info["learning"]) == (
        4096, 4789, "192.0.2.1", "uplink", False,
    )  # fmt: skip
    assert tunnel["address"] == tunnel_mac("a")
    assert tunnel["mtu"] == 1450
    assert "UP" in tunnel["flags"]
    assert ("10.65.0.1", 32) in {(a["local"], a["prefixlen"]) for a in tunnel["addr_info"]}
    pod = js(f"ip -j addr show dev {VETH}")[0]
    assert (pod["address"], pod["mtu"]) == (HOST_MAC, 1430)
    assert [a["local"] for a in pod["addr_info"]] == ["fe80::ecee:eeff:feee:eeee"]
    assert sh(f"cat /proc/sys/net/ipv4/conf/{VETH}/proxy_arp").strip() == "1"
    there = routes()
    assert set(there) == {key[0].removesuffix("/32").removesuffix("/128") for key in ROUTES.routes}
    assert there["10.65.1.0/26"] == "10.65.1.0/26 via 10.65.1.1 dev vxlan.calico metric 1024 onlink"
    assert there["10.65.0.2"] == f"10.65.0.2 dev {VETH} scope link metric 1024"
    assert f"10.65.1.1 lladdr {tunnel_mac('b')} PERMANENT" in sh("ip neigh show dev vxlan.calico")
    assert f"{tunnel_mac('b')} dst 2001:db8::2 self permanent" in sh("bridge fdb show dev vxlan-v6.calico")
    assert "masquerade" in sh("nft list table inet tortie")


async def test_nothing_is_done_twice(node: Node) -> None:
    """What the kernel makes of our wishes reads as our wishes: no round after the first changes anything."""
    before = [drift(s) for s in ("links", "routes", "neighbours", "nft")]
    assert node.task
    node.task.cancel()
    await asyncio.wait([node.task])
    for subsystem in node.convergence.subsystems:
        actual = await subsystem.reconciler.read()
        assert subsystem.reconciler.diff(subsystem.desired, actual) in ((), [])
    assert [drift(s) for s in ("links", "routes", "neighbours", "nft")] == before


async def test_starting_repairs_nothing(uplink: None) -> None:
    """Only what someone else broke counts as drift."""
    before = [drift(s) for s in ("links", "routes", "neighbours", "nft")]
    async with running() as node:
        await node.settle()
        await asyncio.sleep(0.3)
    assert [drift(s) for s in ("links", "routes", "neighbours", "nft")] == before


@pytest.mark.parametrize(
    ("subsystem", "damage", "check"),
    [
        ("routes", "ip route del 10.65.1.0/26", "ip route show proto 80 | grep 10.65.1.0/26"),
        ("routes", "ip route del unreachable 10.65.0.0/26", "ip route show proto 80 | grep 'unreachable 10.65.0.0/26'"),
        ("routes", "ip -6 route del fd65::2", "ip -6 route show proto 80 | grep 'fd65::2 '"),
        ("routes", "ip route change 10.65.2.0/26 via 192.0.2.9 metric 1024 proto 80",
         "ip route | grep 'via 192.0.2.2 '"),
        ("routes", "ip route flush proto 80", "ip route show proto 80 | grep 10.65.2.0/26"),
        ("routes", "ip addr flush dev uplink; ip addr add 192.0.2.1/24 dev uplink",
         "ip route show proto 80 | grep 10.65.2.0/26"),
        ("neighbours", "ip neigh del 10.65.1.1 dev vxlan.calico", "ip neigh show dev vxlan.calico | grep 10.65.1.1"),
        ("neighbours", "ip neigh change 10.65.1.1 lladdr 66:00:00:00:00:01 dev vxlan.calico nud permanent",
         f"ip neigh show dev vxlan.calico | grep {tunnel_mac('b')}"),
        ("neighbours", f"bridge fdb del {tunnel_mac('b')} dev vxlan.calico dst 192.0.2.2",
         "bridge fdb show dev vxlan.calico | grep 192.0.2.2"),
        ("links", "ip addr del 10.65.0.1/32 dev vxlan.calico", "ip addr show dev vxlan.calico | grep 10.65.0.1/32"),
        ("links", "ip link del vxlan.calico",
         "ip route show | grep 10.65.1.0/26 && bridge fdb show dev vxlan.calico | grep 192.0.2.2"),
        ("links", "ip link set vxlan.calico down", "ip route show | grep 10.65.1.0/26"),
        ("links", "ip link set vxlan.calico mtu 1400", "ip link show dev vxlan.calico | grep 'mtu 1450'"),
        ("links", f"ip link set {VETH} down", f"ip route show | grep 'dev {VETH}' && ip -6 route | grep 'fd65::2 '"),
        ("links", f"ip link set {VETH} address 02:00:00:00:00:01", f"ip link show dev {VETH} | grep {HOST_MAC}"),
        ("nft", "nft delete table inet tortie", "nft list table inet tortie"),
        ("nft", "nft flush chain inet tortie prerouting", "nft list table inet tortie | grep 'iifname \"cali'"),
        ("nft", "nft delete element inet tortie pods4 '{ 10.65.0.0/16 }'",
         "nft list set inet tortie pods4 | grep 10.65"),
    ],
)  # fmt: skip
async def test_what_someone_breaks_is_back_within_a_second(node: Node, subsystem: str, damage: str, check: str) -> None:
    before = drift(subsystem)
    sh(damage)
    await until(lambda: not subprocess.run(check, shell=True, stdout=subprocess.DEVNULL).returncode)
    await until(lambda: drift(subsystem) > before)
    await node.settle()


async def test_a_sysctl_is_back_after_a_full_read(node: Node) -> None:
    """Procfs notifies nobody; the periodic read finds it."""
    path = f"/proc/sys/net/ipv4/conf/{VETH}/proxy_arp"
    sh(f"echo 0 > {path}")
    node.convergence.lost()
    await until(lambda: sh(f"cat {path}").strip() == "1")


async def test_what_is_not_wanted_any_more_goes(node: Node) -> None:
    node.want(
        links=Links({VETH: POD}, LINKS.sysctls),
        routes=Routes(80, {("10.65.0.2/32", 1024): ROUTES.routes["10.65.0.2/32", 1024]}),
        neighbours=Neighbours(),
    )
    await node.settle()
    assert set(routes()) == {"10.65.0.2"}
    assert not any(link["ifname"].startswith("vxlan") for link in js("ip -j link"))
    assert any(link["ifname"] == VETH for link in js("ip -j link"))


async def test_what_is_not_ours_is_not_touched(uplink: None) -> None:
    sh("ip link add vxlan9 type vxlan id 9 dstport 4790 local 192.0.2.1 dev uplink nolearning; ip link set vxlan9 up")
    sh("bridge fdb add 66:00:00:00:00:09 dev vxlan9 dst 192.0.2.9")
    sh("ip neigh add 192.0.2.77 lladdr 66:00:00:00:00:09 dev uplink nud permanent")
    sh("ip route add 10.99.0.0/24 via 192.0.2.9 proto 12")
    sh("ip route add 10.65.9.0/26 via 192.0.2.9 proto static metric 1024")
    sh("ip -6 route add fd99::/64 via 2001:db8::9 proto bird")
    sh("ip route add 10.98.0.0/24 via 192.0.2.9 proto 80 table 99")
    sh("nft add table inet other; nft add chain inet other c; nft add rule inet other c counter")
    sh("tc qdisc add dev uplink clsact")
    show = (
        "ip route show proto 12; ip route show proto static; ip -6 route show proto bird; ip route show table 99;"
        "bridge fdb show dev vxlan9; ip neigh show dev uplink nud permanent; nft list table inet other;"
        "tc qdisc show dev uplink; ip -d link show dev vxlan9"
    )
    before = sh(show)
    async with running() as node:
        await node.settle()
        node.want(links=Links(), routes=Routes(), neighbours=Neighbours())
        await node.settle()
        assert routes() == {}
    assert sh(show) == before


async def test_a_foreign_route_in_our_place_stays_and_is_reported(uplink: None) -> None:
    sh("ip route add 10.65.2.0/26 via 192.0.2.9 metric 1024 proto static")
    async with running() as node:
        await until(lambda: node.convergence.errors, within=3)
        assert [e.item for e in node.convergence.errors] == ["route/10.65.2.0/26"]
        assert "192.0.2.9" in sh("ip route show 10.65.2.0/26")
        assert "10.65.1.0/26" in routes()
        sh("ip route del 10.65.2.0/26 metric 1024 proto static")
        await node.settle()
        assert "10.65.2.0/26" in routes()


async def test_an_uplink_that_leaves_a_bridge_is_not_deleted(node: Node) -> None:
    before = drift("routes")
    sh("ip link add br9 type bridge; ip link set uplink master br9; ip link set uplink nomaster")
    await asyncio.sleep(0.2)
    await node.settle()
    assert "10.65.2.0/26" in routes()
    assert drift("routes") == before


async def test_our_route_replaced_by_a_foreign_one_is_reported(node: Node) -> None:
    sh("ip route replace 10.65.2.0/26 via 192.0.2.9 metric 1024 proto static")
    await until(lambda: node.convergence.errors)
    assert [e.item for e in node.convergence.errors] == ["route/10.65.2.0/26"]


async def test_a_tunnel_of_another_make_is_made_anew(uplink: None) -> None:
    sh("ip link add vxlan.calico type vxlan id 7 dstport 4789 local 192.0.2.1 dev uplink")
    async with running() as node:
        await node.settle()
        assert js("ip -j -d link show dev vxlan.calico")[0]["linkinfo"]["info_data"]["id"] == 4096
        other = replace(TUNNEL, vxlan=replace(TUNNEL.vxlan, port=4799))
        node.want(links=Links(dict(LINKS.links) | {TUNNEL.name: other}, LINKS.sysctls))
        await node.settle()
        assert js("ip -j -d link show dev vxlan.calico")[0]["linkinfo"]["info_data"]["port"] == 4799
        await until(lambda: "10.65.1.0/26" in routes())


async def test_a_restart_changes_nothing(uplink: None) -> None:
    async with running() as node:
        await node.settle()
    with subprocess.Popen(
        ["ip", "monitor", "link", "route", "neigh", "address"], stdout=subprocess.PIPE, text=True
    ) as p:
        await asyncio.sleep(0.3)
        try:
            async with running() as node:
                await node.settle()
                await asyncio.sleep(0.2)
        finally:
            p.terminate()
        assert p.stdout is not None
        seen = p.stdout.read()
    assert "10.65" not in seen, seen
    assert "Deleted" not in seen, seen


async def test_five_thousand_routes(node: Node) -> None:
    """Set up within seconds, and one more of them costs a fraction of reading them all."""
    many = {
        (f"10.{100 + i // 1024}.{i // 4 % 256}.{i % 4 * 64}/26", 1024): Route(
            "unicast", "vxlan.calico", "10.65.1.1", onlink=True
        )
        for i in range(5000)
    }
    began = time.monotonic()
    node.want(routes=Routes(80, dict(ROUTES.routes) | many))
    await node.settle(within=30)
    assert time.monotonic() - began < 15
    assert len(sh("ip route show proto 80").splitlines()) == 5004
    one = {("10.200.0.0/26", 1024): Route("unreachable")}
    began, cpu = time.monotonic(), time.process_time()
    node.want(routes=Routes(80, dict(ROUTES.routes) | many | one))
    await until(lambda: "10.200.0.0/26" in sh("ip route show 10.200.0.0/26"))
    assert time.process_time() - cpu < 0.1
