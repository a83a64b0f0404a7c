"""Parts that go away and come back: what runs is not disturbed, what is known starts, nothing is forgotten."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tortie.lab.lab import Lab
from tortie.lab.traffic import COMMAND

from .cluster import Corner, Json, addresses, eventually, pod, target

pytestmark = pytest.mark.timeout(240)


@asynccontextmanager
async def pair(corner: Corner) -> AsyncIterator[list[Json]]:
    """Two pods on different nodes."""
    await corner.apply(pod("near", nodeName="node1"), pod("far", nodeName="node2"))
    await corner.ready("near", "far")
    yield [await corner.get("pod/near"), await corner.get("pod/far")]


@asynccontextmanager
async def stream(corner: Corner, name: str, targets: list[str]) -> AsyncIterator[dict[str, Any]]:
    """Connections from a pod for as long as the block lasts; what became of them is filled in afterwards."""
    command = corner.lab.pod_command(f"{corner.namespace}/{name}", [*COMMAND, "stream", *targets])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    result: dict[str, Any] = {}
    yield result
    process.stdin.close()
    result |= json.loads(await process.stdout.read())
    await process.wait()


async def test_with_the_api_server_down_pods_talk_agents_restart_and_a_known_pod_comes_back(corner: Corner) -> None:
    async with pair(corner) as (near, far):
        targets = [target(address) for address in addresses(far)]
        async with stream(corner, "near", targets) as result:
            await corner.lab.stop("apiserver", grace=0)
            await corner.lab.stop("operator", grace=0)
            before = {node: await corner.lab.pid(f"agent/{node}") for node in ("node1", "node2")}
            await corner.lab.restart("agent", grace=0)
            for node, pid in before.items():
                await corner.lab.wait_component(f"agent/{node}", other_than=pid)
            # The sandbox of a pod that this node knows is lost: it is made again, with the addresses it had.
            before_id = corner.record("near")["netns"]
            await asyncio.sleep(1)
        assert result["lost"] == result["failed"] == []
        assert result["established"] == 2
        sandbox = before_id.rpartition("/")[2]
        pids = (await corner.lab.node_exec("node1", ["ip", "netns", "pids", sandbox])).split()
        await corner.lab.node_exec("node1", ["kill", "-9", *pids])

        async def comes_back() -> bool:
            new = corner.record("near")["netns"]
            return new != before_id and all((await corner.reach("near", *targets)).values())

        await eventually(comes_back, 40)
        await corner.lab.start("apiserver")
        await corner.lab.wait_ready()
        await corner.lab.start("operator")
        await corner.lab.wait_component("operator")
        assert addresses(await corner.get("pod/near")) == addresses(near)
        await corner.apply(pod("after"))
        await corner.ready("after")


async def test_etcd_restored_to_an_older_state_brings_no_address_twice(corner: Corner) -> None:
    lab = corner.lab
    data = lab.control.directory / "disk" / "etcd"
    kept = data.with_name("etcd-kept")
    async with pair(corner) as (near, far):
        await stop_store(lab)
        shutil.copytree(data, kept)
        await start_store(lab)
        try:
            await corner.apply(pod("undone", nodeName="node1"))
            await corner.ready("undone")
            undone = addresses(await corner.get("pod/undone"))
            targets = [target(address) for address in addresses(far)]
            async with stream(corner, "near", targets) as result:
                await stop_store(lab)
                shutil.rmtree(data)
                kept.rename(data)
                await start_store(lab)
                await lab.wait_component("operator")

                async def settled() -> bool:
                    states = json.loads(await lab.kubectl("get", "nodestates", "-o", "json"))["items"]
                    return all(ready(state) for state in states)

                await eventually(settled)
            assert result["lost"] == result["failed"] == []
            await corner.gone("undone")  # nobody knows it any more
            await corner.apply(*(pod(f"new{number}", nodeName="node1") for number in range(5)))
            await corner.ready(*(f"new{number}" for number in range(5)))
            everyone = [address for each in await corner.pods() for address in addresses(each)]
            assert len(everyone) == len(set(everyone)) == 14
            assert addresses(await corner.get("pod/near")) == addresses(near)
            for address in everyone:
                assert (await corner.reach("far", target(address)))[target(address)], address
            assert undone
        finally:
            shutil.rmtree(kept, ignore_errors=True)


def ready(state: Json) -> bool:
    conditions = {c["type"]: c["status"] for c in state.get("status", {}).get("conditions", ())}
    return conditions == {"Ready": "True", "Adopted": "True"}


async def stop_store(lab: Lab) -> None:
    for component in ("apiserver", "etcd"):
        await lab.stop(component, grace=0)


async def start_store(lab: Lab) -> None:
    for component in ("etcd", "apiserver"):
        await lab.start(component)
    await lab.wait_ready()


async def test_agents_killed_under_traffic_lose_nothing(corner: Corner) -> None:
    async with pair(corner) as (_, far):
        async with stream(corner, "near", [target(address) for address in addresses(far)]) as result:
            for _ in range(3):
                for node in ("node1", "node2"):
                    pid = await corner.lab.pid(f"agent/{node}")
                    await corner.lab.restart(f"agent/{node}", grace=0)
                    await corner.lab.wait_component(f"agent/{node}", other_than=pid)
        assert result["lost"] == result["failed"] == []
        assert result["established"] == 2
        assert result["opened"] > 50


async def test_a_pod_of_the_same_name_gets_through_all_orders_of_deletion(corner: Corner) -> None:
    for number in range(4):
        await corner.apply(pod("same", nodeName="node3"), pod("other", nodeName="node1"))
        await corner.ready("same", "other")
        found = [target(address) for address in addresses(await corner.get("pod/same"))]
        assert set((await corner.reach("other", *found)).values()) == {"same"}
        force = ["--force", "--grace-period=0"] if number % 2 else ["--grace-period=1"]
        await corner.kubectl("delete", "pod", "same", *force, "--timeout=20s")
