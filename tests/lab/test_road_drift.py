"""What someone breaks in a node's kernel is mended within a second, and what is theirs is left alone."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tortie.api.internal import veth_name

from .cluster import Corner, addresses, eventually, pod, target

pytestmark = pytest.mark.timeout(120)


async def sh(corner: Corner, script: str) -> str:
    return await corner.lab.node_exec("node1", ["sh", "-c", script])


async def holds(corner: Corner, script: str) -> bool:
    await sh(corner, script)
    return True


CASES = {
    "ip route del {v4}": "ip route get {v4} | grep -w {veth}",
    "ip -6 route del {v6}": "ip -6 route get {v6} | grep -w {veth}",
    "ip link set {veth} down": "ip link show {veth} | grep -w UP",
    "ip address flush dev {veth}": "ip address show {veth} | grep fe80::ecee:eeff:feee:eeee",
    "ip link set {veth} mtu 1000": "! ip link show {veth} | grep 'mtu 1000'",
    "tc filter del dev {veth} ingress": "tc filter show dev {veth} ingress | grep from_pod",
    "tc qdisc del dev {veth} clsact": "tc filter show dev {veth} egress | grep to_pod",
    "nft delete table inet tortie": "nft list chain inet tortie output",
    "nft flush chain inet tortie prerouting": "nft list chain inet tortie prerouting | grep drop",
    "ip link set vxlan.calico down": "ip link show vxlan.calico | grep -w UP",
    "ip link del vxlan.calico": "ip -d link show vxlan.calico | grep 4096",
}
"""What someone does, and what is seen once it is mended."""
MENDED_WITHIN = 1.0
LOOKING = 1.5
"""Seconds that seeing it takes on a busy machine: entering the node, a shell, two programs."""


async def test_what_is_ours_is_back_within_a_second(corner: Corner) -> None:
    await corner.apply(pod("victim", nodeName="node1"), pod("friend", nodeName="node2"))
    await corner.ready("victim", "friend")
    v4, v6 = addresses(await corner.get("pod/victim"))
    words = {"v4": v4, "v6": v6, "veth": veth_name(corner.namespace, "victim")}
    took = {}
    for breaking, looking in CASES.items():
        await sh(corner, breaking.format(**words))
        began = time.monotonic()
        await eventually(partial(holds, corner, looking.format(**words)), 10)
        took[breaking] = time.monotonic() - began
        assert set((await corner.reach("friend", target(v4), target(v6))).values()) == {"victim"}, breaking
    assert {case: seconds for case, seconds in took.items() if seconds > MENDED_WITHIN + LOOKING} == {}


async def test_what_is_not_ours_is_left_alone(corner: Corner) -> None:
    await corner.apply(pod("bystander", nodeName="node1"))
    await corner.ready("bystander")
    veth = veth_name(corner.namespace, "bystander")
    await sh(
        corner,
        f"""set -e
        ip route add 198.18.0.0/24 dev eth0 proto 99
        ip route add 10.244.255.0/26 dev eth0 proto bird
        nft add table inet theirs
        nft 'add chain inet theirs look {{ type filter hook forward priority 0; }}'
        ip link add theirs0 type bridge
        ip address add 198.19.0.1/24 dev theirs0
        tc filter add dev {veth} ingress protocol ip pref 7 u32 match u32 0 0 flowid 1:1
        """,
    )
    try:
        for _ in range(2):
            pid = await corner.lab.pid("agent/node1")
            await corner.lab.restart("agent/node1")
            await corner.lab.wait_component("agent/node1", other_than=pid)
            await corner.apply(pod("newcomer", nodeName="node1"))
            await corner.ready("newcomer")
            await corner.kubectl("delete", "pod", "newcomer", "--timeout=20s")
            await sh(
                corner,
                f"""set -e
                ip route show proto 99 | grep 198.18.0.0/24
                ip route show proto bird | grep 10.244.255.0/26
                nft list chain inet theirs look
                ip address show theirs0 | grep 198.19.0.1
                tc filter show dev {veth} ingress | grep 'pref 7'
                """,
            )
    finally:
        await sh(corner, "ip route del 198.18.0.0/24; ip route del 10.244.255.0/26")
        await sh(corner, "nft delete table inet theirs; ip link del theirs0")
