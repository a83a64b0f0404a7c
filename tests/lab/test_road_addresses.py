"""Pools: what leaves the cluster, and what happens when there are no addresses left."""

from __future__ import annotations

import json

import pytest

from tortie.lab.plan import OUTSIDE

from .cluster import Corner, Json, addresses, eventually, pod

pytestmark = pytest.mark.timeout(120)

REACHED = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_STREAM) as client:
    client.settimeout(1.5)
    try:
        client.connect((sys.argv[1], 9))
    except ConnectionRefusedError:
        print("answered")
    except OSError as error:
        print(error)
"""


async def test_nat_outgoing_is_for_what_leaves_the_pools_and_for_ipv4_alone(corner: Corner) -> None:
    """The router that stands for the world has no route to pods: it can only answer a node."""
    await corner.apply(pod("web", nodeName="node1"))
    await corner.ready("web")
    outside = {address.partition("/")[0] for address in OUTSIDE}
    said = {}
    for address in outside:
        command = ["/usr/bin/python3", "-c", REACHED, address]
        said[":" in address] = (await corner.lab.pod_exec(f"{corner.namespace}/web", command)).strip()
    assert said[False] == "answered"
    assert said[True] != "answered"


async def test_a_full_pool_is_told_and_serves_again_when_addresses_come_free(corner: Corner) -> None:
    lab = corner.lab
    default = '{"spec": {"disabled": %s}}'
    tiny: Json = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": "tiny"},
        "spec": {
            "cidr": "10.77.0.0/30",
            "blockSize": 30,
            "vxlanMode": "CrossSubnet",
            "namespaceSelector": f"kubernetes.io/metadata.name == '{corner.namespace}'",
            "nodeSelector": "kubernetes.io/hostname == 'node2'",
            "allowedUses": ["Workload"],
        },
    }
    await lab.kubectl("patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", default % "true")
    try:
        await lab.kubectl("create", "-f", "-", text=json.dumps(tiny))
        names = [f"p{number}" for number in range(6)]
        await corner.apply(*(pod(name, nodeName="node2", terminationGracePeriodSeconds=0) for name in names))

        async def served() -> list[str]:
            return [p["metadata"]["name"] for p in await corner.pods() if p["status"].get("phase") == "Running"]

        async def four() -> bool:
            return len(await served()) == 4

        await eventually(four)
        unserved = sorted(set(names) - set(await served()))
        for name in unserved:
            reasons = await corner.reasons(name)
            assert (
                "no free IPv4 address: all blocks of tiny (10.77.0.0/30) are taken"
                in reasons["FailedAddressAssignment"]
            )
            assert "no free IPv4 address" in reasons["FailedCreatePodSandBox"]
        gone = (await served())[:2]
        await corner.kubectl("delete", "pod", *gone, "--timeout=20s")
        await corner.ready(*unserved)
        given = [address for p in await corner.pods() for address in addresses(p) if ":" not in address]
        assert sorted(given) == [f"10.77.0.{number}" for number in range(4)]
        await corner.kubectl("delete", "pod", "--all", "--timeout=30s")
    finally:
        await lab.kubectl("delete", "ippool", "tiny", "--ignore-not-found")
        await lab.kubectl("patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", default % "false")

    async def given_back() -> bool:
        blocks = json.loads(await lab.kubectl("get", "ipamblocks,blockaffinities", "-o", "json"))["items"]
        return not any(block["spec"]["cidr"].startswith("10.77.") for block in blocks)

    await eventually(given_back)
