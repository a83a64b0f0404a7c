"""STATUS and GC of CNI 1.1 between kubelet stand-in and agent, on a node whose plugins all speak it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from tortie.lab.lab import Lab

from .cluster import Corner, addresses, eventually, pod, state, target

PORTMAP, KEPT = "/opt/cni/bin/portmap", "/opt/cni/portmap.kept"


async def restart_agent(lab: Lab, node: str) -> None:
    before = await lab.pid(f"agent/{node}")
    await lab.restart(f"agent/{node}")
    await lab.wait_component(f"agent/{node}", other_than=before)


async def offered(lab: Lab, node: str) -> list[str]:
    text = await lab.node_exec(node, ["sh", "-c", "cat /etc/cni/net.d/*.conflist"])
    versions: list[str] = json.loads(text)["cniVersions"]
    return versions


@pytest.fixture
async def modern(lab: Lab) -> AsyncIterator[str]:
    """A node without Debian's portmap, which is of CNI 1.0 and holds the whole list there."""
    node = lab.plan.node_names[0]
    await lab.node_exec(node, ["mv", PORTMAP, KEPT])
    await restart_agent(lab, node)
    yield node
    await lab.node_exec(node, ["mv", KEPT, PORTMAP])
    await restart_agent(lab, node)


async def test_an_agent_that_is_down_makes_its_node_unready_and_new_pods_wait(corner: Corner, modern: str) -> None:
    assert "1.1.0" in await offered(corner.lab, modern)
    await corner.lab.stop(f"agent/{modern}", grace=0)
    try:
        await corner.kubectl("wait", "--for=condition=Ready=false", f"node/{modern}", "--timeout=20s")
        # Written past the scheduler and the taint: bound as it was just before the node became unready.
        await corner.apply(pod("late", nodeName=modern, tolerations=[{"operator": "Exists"}]))

        async def told() -> bool:
            return "NetworkNotReady" in await corner.reasons("late")

        await eventually(told)
        assert state(await corner.get("pod/late"))["state"]["waiting"]["reason"] == "ContainerCreating"
    finally:
        await corner.lab.start(f"agent/{modern}")
    await corner.ready("late")
    await corner.kubectl("wait", "--for=condition=Ready", f"node/{modern}", "--timeout=20s")


async def test_what_a_lost_runtime_left_is_collected_and_the_rest_is_not(corner: Corner, modern: str) -> None:
    """The runtime forgets a pod (its records are gone) while another one goes on."""
    await corner.apply(pod("lost", nodeName=modern), pod("kept", nodeName=modern))
    await corner.ready("lost", "kept")
    lost, kept = await corner.get("pod/lost"), corner.record("kept")
    record = corner.record("lost")
    routes = await corner.lab.node_exec(modern, ["ip", "route"])
    assert addresses(lost)[0] in routes
    await corner.lab.stop(f"kubelet/{modern}", grace=0)
    uid = lost["metadata"]["uid"]
    forget = [f"/run/tortie-kubelet/records/{uid}.json", f"/run/tortie-kubelet/pods/{corner.namespace}_lost.json"]
    await corner.lab.node_exec(modern, ["rm", *forget])
    await corner.kubectl("delete", "pod", "lost", "--force", "--grace-period=0", "--wait=false")
    await corner.lab.start(f"kubelet/{modern}")

    async def collected() -> bool:
        cached = await corner.lab.node_exec(modern, ["ls", "/var/lib/cni/results"])
        routes = await corner.lab.node_exec(modern, ["ip", "route"])
        return record["sandbox"] not in cached and addresses(lost)[0] not in routes

    await eventually(collected)
    assert corner.record("kept") == kept
    paths = [target(ip) for ip in kept["ips"]]
    assert await corner.reach_from_node(modern, *paths) == dict.fromkeys(paths, "kept")
