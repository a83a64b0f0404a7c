"""Policy that changes under traffic: what is cut, what is kept, and what is never open, not for one packet."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import sys
import time
from itertools import pairwise

from tortie.api.kubernetes import Pod
from tortie.api.networking import NetworkPolicy
from tortie.kube import resources
from tortie.kube.client import Client

from .cluster import addresses, eventually, pod
from .stage import Stage, furnished, stage

__all__ = ["furnished", "stage"]

CLIENTS = {"near", "far"}
BY_LABEL = {"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}
SLACK = 0.05
"""Seconds that an answer may take after the policy that stops the next one is in force."""
TIMES = 20


async def test_a_new_deny_cuts_live_connections_and_its_end_lets_them_go_on(stage: Stage) -> None:
    async with contextlib.AsyncExitStack() as stack:
        talks = [
            await stack.enter_async_context(stage.client(name, "talk", address, "80"))
            for name in sorted(CLIENTS)
            for address in addresses(stage.web)
        ]
        await asyncio.sleep(0.3)
        await stage.enforce(stage.ingress())
        cut = time.monotonic() + SLACK
        await asyncio.sleep(0.4)
        mended = time.monotonic()
        await stage.withdraw()
        await asyncio.sleep(4)  # TCP sends again after 0.2, 0.4, 0.8 … s of silence
    for talk in talks:
        ((address, times),) = talk.items()
        assert [each for each in times if each < cut], f"{address} was never answered"
        assert not [each for each in times if cut < each < mended], f"{address} was answered in spite of the Deny"
        assert [each for each in times if each > mended], f"{address} was not answered after the Deny was gone"


async def test_edits_and_dead_agents_lose_no_allowed_connection_and_open_nothing(stage: Stage) -> None:
    open_admin = {"ports": [{"port": "admin"}], **BY_LABEL}
    versions = [stage.ingress(BY_LABEL), stage.ingress(open_admin, BY_LABEL), stage.ingress(BY_LABEL, open_admin)]
    await stage.enforce(versions[0])
    web = addresses(stage.web)
    async with contextlib.AsyncExitStack() as stack:
        talks = {
            (name, address): await stack.enter_async_context(stage.client(name, "talk", address, "80"))
            for name in sorted(CLIENTS)
            for address in web
        }
        denied = [
            await stack.enter_async_context(stage.client(name, "ping", *web)) for name in ("stranger", "neighbour")
        ]
        for number in range(9):
            if number == 3:
                await kill_agents(stage, *stage.lab.plan.node_names[:2])
            await stage.apply(versions[number % len(versions)])
            await asyncio.sleep(0.1)
        await asyncio.gather(*(stage.lab.wait_component(f"agent/{each}") for each in stage.lab.plan.node_names[:2]))
        await stage.enforce(stage.ingress(BY_LABEL))
        await asyncio.sleep(0.5)
        end = time.monotonic()
    for talk, answered in talks.items():
        times = [*answered[talk[1]], end]
        silence = max(later - before for before, later in pairwise(times))
        assert silence < 1, f"{talk} was silent for {silence:.2f} s"
    assert denied == [{}, {}]
    assert await stage.who() == CLIENTS


async def kill_agents(stage: Stage, *nodes: str) -> None:
    for node in nodes:
        pid = await stage.lab.pid(f"agent/{node}")
        assert pid
        os.kill(pid, signal.SIGKILL)


async def test_verdicts_follow_the_labels_of_a_pod_also_on_live_connections(stage: Stage) -> None:
    await stage.enforce(stage.ingress(BY_LABEL))
    assert await stage.who() == CLIENTS

    async def all_three() -> bool:
        return await stage.who() == {*CLIENTS, "stranger"}

    async def as_before() -> bool:
        return await stage.who() == CLIENTS

    await stage.home.kubectl("label", "pod/stranger", "role=client")
    try:
        await eventually(all_three, seconds=10)
        async with stage.client("stranger", "talk", addresses(stage.web)[0], "80") as talk:
            await asyncio.sleep(0.3)
            await stage.home.kubectl("label", "pod/stranger", "role-")
            await eventually(as_before, seconds=10)
            denied = time.monotonic()
            await asyncio.sleep(0.5)
    finally:
        await stage.home.kubectl("label", "pod/stranger", "role-")
    (times,) = talk.values()
    assert times, "it was never answered"
    assert times[-1] < denied, "its connection outlived the label that allowed it"


async def test_a_policy_made_before_a_pod_polices_its_first_packet(stage: Stage) -> None:
    """A pod on another node sends echo requests to all addresses that the pods may get, from before they exist: their
    kernel would answer as soon as one comes through. Pods without a policy show that it is so."""
    node = stage.lab.plan.node_names[2]
    peer = json.loads(await stage.lab.kubectl("get", f"nodepeer/{node}", "-o", "json"))
    nets = [str(each) for each in peer["spec"]["blocks"]]
    guarded, unguarded = [f"guarded-{n}" for n in range(TIMES)], ["open-0", "open-1"]
    async with stage.client("far", "ping", *hosts(nets)) as answered:
        async with await Client.connect(stage.lab.kubeconfig, user_agent="test") as client:
            for name in (*guarded, *unguarded):
                await create(client, stage, name, node, with_policy=name in guarded)
        await stage.home.ready(*guarded, *unguarded)
    pods = {each["metadata"]["name"]: addresses(each) for each in await stage.home.pods("app")}
    assert all(address in answered for name in unguarded for address in pods[name])
    leaks = {name: address for name in guarded for address in pods[name] if address in answered}
    await stage.home.kubectl("delete", "--wait=false", "pod", *guarded, *unguarded)
    assert not leaks


async def create(client: Client, stage: Stage, name: str, node: str, *, with_policy: bool) -> None:
    """A policy that denies a pod everything, and at once the pod."""
    namespace, labels = stage.home.namespace, {"app": name}
    if with_policy:
        policy = stage.ingress(name=name)
        policy["spec"]["podSelector"] = {"matchLabels": labels}
        stage.applied.append(policy)
        await client.create(resources.KUBERNETES_NETWORK_POLICY, policy, namespace=namespace, type=NetworkPolicy)
    await client.create(resources.POD, pod(name, labels=labels, nodeName=node), namespace=namespace, type=Pod)


async def test_the_command_tells_how_a_policy_comes_into_force_and_goes(stage: Stage) -> None:
    command = [sys.executable, "-m", "tortie.cli.main", "policy", "status", "-n", stage.home.namespace, "-o", "json"]
    environment = os.environ | {"KUBECONFIG": str(stage.lab.kubeconfig)}
    pipe = asyncio.subprocess.PIPE
    watch = await asyncio.create_subprocess_exec(*command, "-w", stdout=pipe, env=environment)
    try:
        await asyncio.sleep(1)
        await stage.enforce(stage.ingress())
        assert watch.stdout is not None

        async def told(*, enforced: str, reason: str = "") -> None:
            async with asyncio.timeout(10):
                while True:
                    assert watch.stdout is not None
                    said = json.loads(await watch.stdout.readline())
                    assert (said["kind"], said["name"]) == ("KubernetesNetworkPolicy", "web")
                    if said["enforced"]["status"] == enforced and reason in ("", said["enforced"]["reason"]):
                        return

        await told(enforced="True")
        once = await asyncio.create_subprocess_exec(*command, stdout=pipe, env=environment)
        (line,) = (await once.communicate())[0].splitlines()
        said = json.loads(line)
        assert (said["accepted"]["status"], said["enforced"]["status"]) == ("True", "True")
        assert (said["on"], said["of"], said["waiting"], said["failed"]) == (1, 1, [], [])
        await stage.withdraw()
        await told(enforced="False", reason="Gone")
    finally:
        watch.terminate()
        await watch.wait()


def hosts(nets: list[str]) -> list[str]:
    return [str(each) for net in nets for each in ipaddress.ip_network(net)]
