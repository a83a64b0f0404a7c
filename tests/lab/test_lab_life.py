"""Labs come and go side by side, and leave nothing behind however they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tortie.lab import Lab, LabError
from tortie.lab.lab import RUN
from tortie.lab.machine import inits
from tortie.lab.plan import Plan

from .cluster import Corner, addresses, eventually, pod, target, workload

TORTIE = Path(sys.executable).parent / "tortie"


def traces(lab: Lab) -> list[str]:
    """Whatever of a lab can be seen on the host: processes, mounts, interfaces, directories."""
    found = [str(path) for path in RUN.glob(f"{lab.name}*")]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"/{lab.name}/" in command:
                found.append(command)
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if lab.name in line]
    interface = Plan(lab.name).host_interface
    return [*found, *(name for name in os.listdir("/sys/class/net") if name == interface)]


def namespaces(lab: Lab) -> set[str]:
    """The network namespaces of the lab's machines and of everything on them, pods included."""
    found = set()
    for init in inits(lab.directory):
        machine = os.readlink(f"/proc/{init}/ns/mnt")
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "ns/mnt") == machine:
                    found.add(os.readlink(process / "ns/net"))
    return found


def in_use(network_namespaces: set[str]) -> set[str]:
    """Which of them a process or a mount still holds."""
    held = {word for line in Path("/proc/self/mountinfo").read_text().splitlines() for word in line.split()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            held.add(os.readlink(process / "ns/net"))
    return network_namespaces & held


@pytest.fixture
async def fresh(lab: Lab) -> AsyncIterator[Callable[[str], Lab]]:
    """Labs beside the session's, removed at the end whatever became of them."""
    made: list[Lab] = []

    def make(purpose: str) -> Lab:
        made.append(Lab(f"test-{os.getpid()}-{purpose}", print))
        return made[-1]

    yield make
    for each in made:
        await each.down()


async def test_two_labs_run_side_by_side_and_one_goes_without_the_other(lab: Lab, fresh: Callable[[str], Lab]) -> None:
    """The second has its nodes in two subnets, so that its pods meet through a tunnel."""
    other = fresh("two")
    await other.up(nodes=2, subnets=2)
    assert other.server != lab.server
    assert (await other.kubectl("get", "nodes", "-o", "name")).split() == ["node/node1", "node/node2"]
    await other.kubectl("create", "namespace", "cross")
    await other.kubectl("wait", "--for=create", "-n", "cross", "serviceaccount/default", "--timeout=20s")
    corner = Corner(other, "cross")
    await corner.apply(workload("DaemonSet", "each", pod("each")))
    await corner.kubectl("rollout", "status", "daemonset/each", "--timeout=40s")
    pods = await corner.pods()
    expected = {target(ip): each["metadata"]["name"] for each in pods for ip in addresses(each)}
    for each in pods:
        assert await corner.reach(each["metadata"]["name"], *expected) == expected
    theirs = namespaces(other)
    assert len(theirs) == 3 + 2 + 2  # control plane, fabric, router; nodes; pods
    assert in_use(theirs) == theirs
    assert traces(other)
    await other.down()
    assert traces(other) == []
    assert not in_use(theirs)
    assert len((await lab.kubectl("get", "nodes", "-o", "name")).split()) == len(lab.plan.node_names)


async def test_nothing_is_left_after_everything_was_killed(fresh: Callable[[str], Lab]) -> None:
    lab = fresh("dead")
    await lab.up(nodes=1)
    await lab.kubectl("create", "namespace", "web")
    await lab.kubectl("wait", "--for=create", "-n", "web", "serviceaccount/default", "--timeout=20s")
    corner = Corner(lab, "web")
    await corner.apply(pod("web"))
    await corner.ready("web")
    theirs = namespaces(lab)
    for process in (await lab.status())["processes"]:
        if not process["component"].startswith(("machine/", "node/")):
            os.kill(process["pid"], signal.SIGKILL)
    for pid in inits(lab.directory):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(LabError):
        await lab.kubectl("get", "nodes", "--request-timeout=2s")
    await lab.down()
    assert traces(lab) == []
    assert not in_use(theirs)


async def test_nothing_is_left_of_an_up_that_was_killed_half_way(fresh: Callable[[str], Lab]) -> None:
    lab = fresh("half")
    command = [TORTIE, "lab", "up", "--name", lab.name, "--nodes", "2"]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)

    async def nodes_have_booted() -> bool:
        return len(inits(lab.directory)) == 5

    await eventually(nodes_have_booted)
    process.kill()
    await process.wait()
    with pytest.raises(LabError, match="exists already"):
        await lab.up()
    assert traces(lab)
    await lab.down()
    assert traces(lab) == []
    await lab.down()  # of a lab that is not there


async def test_status_names_every_process_and_the_kubeconfig(lab: Lab) -> None:
    out = subprocess.run([TORTIE, "lab", "status", "--name", lab.name, "-o", "json"], capture_output=True, check=True)
    status: dict[str, Any] = json.loads(out.stdout)
    assert [node["name"] for node in status["nodes"]] == lab.plan.node_names
    pids = {process["component"]: process["pid"] for process in status["processes"]}
    parts = ("kubelet", "kube-proxy", "agent", "node")
    expected = {f"{part}/{node}" for part in parts for node in lab.plan.node_names}
    expected |= {"etcd", "apiserver", "controller-manager", "scheduler", "operator"}
    assert expected <= set(pids)
    for component in expected:
        command = Path(f"/proc/{pids[component]}/cmdline").read_bytes().decode()
        word = "init.py" if component.startswith("node/") else component.split("/")[0]
        assert word in command
    client = ["--kubeconfig", status["kubeconfig"], "get", "nodes"]
    assert "node1" in subprocess.run([lab.kubectl_command()[0], *client], capture_output=True, text=True).stdout


async def test_the_command_reaches_cluster_pods_and_logs(corner: Corner) -> None:
    def tortie(action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [TORTIE, "lab", action, "--name", corner.lab.name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    await corner.apply(pod("web"))
    await corner.ready("web")
    assert "web" in tortie("kubectl", "--", "-n", corner.namespace, "get", "pods").stdout
    assert tortie("exec", f"{corner.namespace}/web", "--", "sh", "-c", "exit 5").returncode == 5
    assert "eth0" in tortie("exec", f"{corner.namespace}/web", "--", "ip", "link").stdout
    assert "pods can be attached" in tortie("logs", "agent/node1").stdout
    before = await corner.lab.pid("agent/node1")
    assert tortie("restart", "agent/node1").returncode == 0
    await corner.lab.wait_component("agent/node1", other_than=before)
    for arguments, message in (
        (("exec", "nowhere/nobody", "--", "true"), "runs on no node"),
        (("exec", "nobody", "--", "true"), "NAMESPACE/NAME"),
        (("logs", "agent/node9"), "no node 'node9'"),
        (("restart", "kubelt"), "is no component"),
    ):
        refused = tortie(*arguments)
        assert refused.returncode == 1
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["up", "--name", "Big"], "name 'Big'"),
        (["up", "--name", "x", "--nodes", "1000"], "nodes 1000"),
        (["up", "--name", "x", "--subnets", "0"], "subnets 0"),
        (["down", "--name", "../etc"], "name '../etc'"),
        (["status", "--name", "nosuch"], "no lab 'nosuch'"),
    ],
)
def test_a_wrong_name_or_number_is_refused_in_one_line(lab: Lab, arguments: list[str], message: str) -> None:
    refused = subprocess.run([TORTIE, "lab", *arguments], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
