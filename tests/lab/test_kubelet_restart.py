"""What outlives the kubelet, the API server and the node, and what comes back."""

from __future__ import annotations

import json
from itertools import pairwise

from tortie.lab.machine import MachineError

from .cluster import Corner, Json, addresses, eventually, pod, running, state, target


async def home(corner: Corner, name: str) -> tuple[Json, str]:
    """A ready pod, and its node."""
    await corner.ready(name)
    obj = await corner.get(f"pod/{name}")
    return obj, obj["spec"]["nodeName"]


async def pids(corner: Corner, node: str, netns: str) -> set[str]:
    return set((await corner.lab.node_exec(node, ["ip", "netns", "pids", netns.rpartition("/")[2]])).split())


async def test_pods_live_on_when_the_kubelet_is_killed(corner: Corner) -> None:
    await corner.apply(pod("web"), pod("talk", containers=running("while :; do date +%s%N; sleep 0.05; done")))
    await corner.ready("talk")
    obj, node = await home(corner, "web")
    before = await pids(corner, node, corner.record("web")["netns"])
    assert before
    await corner.lab.restart("kubelet", grace=0)

    async def heard_again() -> bool:
        """The kubelet is back: it takes an order."""
        await corner.apply(pod("after", nodeName=node))
        await corner.ready("after")
        return True

    await eventually(heard_again)
    assert await pids(corner, node, corner.record("web")["netns"]) == before
    again = await corner.get("pod/web")
    assert state(again)["containerID"] == state(obj)["containerID"]
    assert state(again)["restartCount"] == 0
    assert state(again)["ready"]
    assert "NetworkCheckFailed" not in await corner.reasons("web")
    times = [int(line) for line in (await corner.log("talk")).split()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < 1_000_000_000
    await corner.kubectl("delete", "pod", "web", "talk", "--timeout=20s")


async def test_a_restart_of_the_kubelet_does_not_make_node_or_pod_unready(corner: Corner) -> None:
    probe = {"tcpSocket": {"port": 80}, "periodSeconds": 1}
    containers = [{"name": "main", "image": "a", "ports": [{"containerPort": 80}], "readinessProbe": probe}]
    await corner.apply(pod("web", containers=containers))
    obj, node = await home(corner, "web")
    ready = _transition(obj)
    node_ready = _transition(await corner.get(f"node/{node}"))
    await corner.lab.restart(f"kubelet/{node}", grace=0)
    await corner.apply(pod("after", nodeName=node))
    await corner.ready("after")
    assert _transition(await corner.get("pod/web")) == ready
    assert _transition(await corner.get(f"node/{node}")) == node_ready


def _transition(obj: Json) -> tuple[str, str]:
    [ready] = [each for each in obj["status"]["conditions"] if each["type"] == "Ready"]
    return ready["status"], ready["lastTransitionTime"]


async def test_what_happened_while_the_kubelet_was_down_is_made_up_for(corner: Corner) -> None:
    node = corner.lab.plan.node_names[1]
    await corner.apply(
        pod("short", nodeName=node, restartPolicy="Never", containers=running("sleep 2; exit 5")),
        pod("again", nodeName=node, containers=running("sleep 2; exit 6")),
        pod("unwanted", nodeName=node),
    )
    await corner.ready("short", "again", "unwanted")
    netns = corner.record("unwanted")["netns"]
    await corner.lab.stop(f"kubelet/{node}", grace=0)
    await corner.kubectl("delete", "pod", "unwanted", "--force", "--grace-period=0", "--wait=false")
    await corner.apply(pod("late", nodeName=node))
    await corner.lab.node_exec(node, ["sleep", "2.5"])
    await corner.lab.start(f"kubelet/{node}")
    await corner.wait("jsonpath={.status.phase}=Failed", "pod/short")
    assert state(await corner.get("pod/short"))["state"]["terminated"]["exitCode"] == 5
    obj = await corner.until("pod/again", lambda obj: state(obj)["restartCount"] == 1)
    assert state(obj)["lastState"]["terminated"]["exitCode"] == 6
    await corner.ready("late")

    async def unwanted_is_gone() -> bool:
        try:
            await corner.lab.node_exec(node, ["test", "-e", netns])
        except MachineError:
            return True
        return False

    await eventually(unwanted_is_gone)


async def test_a_broken_network_is_told_when_the_kubelet_takes_up_a_pod(corner: Corner) -> None:
    await corner.apply(pod("web"))
    obj, node = await home(corner, "web")
    await corner.lab.pod_exec(f"{corner.namespace}/web", ["ip", "address", "flush", "dev", "eth0"])
    await corner.lab.restart(f"kubelet/{node}", grace=0)

    async def told() -> bool:
        return addresses(obj)[0] in (await corner.reasons("web")).get("NetworkCheckFailed", "")

    await eventually(told)
    assert "running" in state(await corner.get("pod/web"))["state"]


async def test_a_pod_that_was_ending_ends_after_the_kubelet_was_killed(corner: Corner) -> None:
    node = corner.lab.plan.node_names[0]
    script = "trap '' TERM; while :; do sleep 0.1; done"
    await corner.apply(pod("slow", nodeName=node, containers=running(script), terminationGracePeriodSeconds=3))
    await corner.ready("slow")
    before = corner.record("slow")
    await corner.kubectl("delete", "pod", "slow", "--wait=false")
    await corner.lab.restart(f"kubelet/{node}", grace=0)
    await corner.gone("slow", seconds=15)
    names = await corner.lab.node_exec(node, ["ls", "/run/netns", "/run/tortie-kubelet/sandboxes"])
    assert before["netns"].rpartition("/")[2] not in names
    assert before["sandbox"] not in names


async def test_a_killed_sandbox_comes_back_without_the_api_server(corner: Corner) -> None:
    await corner.apply(pod("web"))
    obj, node = await home(corner, "web")
    before = corner.record("web")
    [init, *_] = sorted(map(int, await pids(corner, node, before["netns"])))
    await corner.lab.stop("apiserver", grace=0)
    try:
        await corner.lab.node_exec(node, ["kill", "-9", str(init)])
        paths = [target(ip) for ip in addresses(obj)]

        async def back() -> bool:
            return corner.record("web")["sandbox"] != before["sandbox"] and corner.record("web")["ips"]

        async def answers() -> bool:
            return await corner.reach_from_node(node, *paths) == dict.fromkeys(paths, "web")

        await eventually(back)
        if corner.record("web")["ips"] == before["ips"]:
            await eventually(answers)
    finally:
        await corner.lab.start("apiserver")
        await corner.lab.wait_ready()
    again = await corner.until("pod/web", lambda obj: state(obj).get("restartCount") == 1 and state(obj)["ready"])
    assert again["metadata"]["uid"] == obj["metadata"]["uid"]
    assert addresses(again) == corner.record("web")["ips"]


async def test_a_rebooted_node_brings_its_pods_back_with_new_containers(corner: Corner) -> None:
    node = corner.lab.plan.node_names[2]
    await corner.apply(
        pod("web", nodeName=node),
        pod("once", nodeName=node, restartPolicy="Never", containers=running("sleep infinity")),
    )
    await corner.ready("web", "once")
    before, record = await corner.get("pod/web"), corner.record("web")
    await corner.lab.restart(f"node/{node}", grace=0)
    await corner.wait("jsonpath={.status.phase}=Failed", "pod/once", seconds=60)
    obj = await corner.until("pod/web", lambda obj: state(obj)["restartCount"] == 1 and state(obj)["ready"], 60)
    assert obj["metadata"]["uid"] == before["metadata"]["uid"]
    assert state(obj)["containerID"] != state(before)["containerID"]
    assert corner.record("web")["sandbox"] != record["sandbox"]
    paths = [target(ip) for ip in addresses(obj)]
    assert paths
    await eventually(lambda: _reached(corner, node, paths))


async def _reached(corner: Corner, node: str, paths: list[str]) -> bool:
    return await corner.reach_from_node(node, *paths) == dict.fromkeys(paths, "web")


async def test_a_pod_waits_for_cni_and_says_why(corner: Corner) -> None:
    """A plugin that refuses ADD: the pod stays ContainerCreating; once it does not, the pod starts."""
    node = corner.lab.plan.node_names[0]
    file = (await corner.lab.node_exec(node, ["sh", "-c", "ls /etc/cni/net.d/*.conflist | head -1"])).strip()
    plugin = json.loads(await corner.lab.node_exec(node, ["cat", file]))["plugins"][0]["type"]
    script = f"""#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then echo '{{"code": 11, "msg": "try again later", "details": "no entry"}}'; exit 1; fi
exec /opt/cni/bin/{plugin}.kept
"""
    await corner.lab.node_exec(node, ["mv", f"/opt/cni/bin/{plugin}", f"/opt/cni/bin/{plugin}.kept"])
    try:
        install = f"cat > /opt/cni/bin/{plugin} && chmod 755 /opt/cni/bin/{plugin}"
        await corner.lab.node_exec(node, ["sh", "-c", install], text=script)
        await corner.apply(pod("web", nodeName=node))
        refused = await corner.until("pod/web", lambda obj: "try again" in str(state(obj)))
        assert state(refused)["state"]["waiting"]["reason"] == "ContainerCreating"
        assert refused["status"]["phase"] == "Pending"
        assert not addresses(refused)
        said = (await corner.reasons("web"))["FailedCreatePodSandBox"]
        assert "try again later: no entry" in said
    finally:
        await corner.lab.node_exec(node, ["mv", f"/opt/cni/bin/{plugin}.kept", f"/opt/cni/bin/{plugin}"])
    await corner.ready("web")
    assert state(await corner.get("pod/web"))["restartCount"] == 0
