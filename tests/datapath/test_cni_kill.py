"""The agent killed at every step of ADD and DEL, and at random moments: then ADD or DEL again, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.nlsocket import NetlinkRequest

from tortie.api.internal import veth_name
from tortie.nodeagent.cni.netns import inside
from tortie.nodeagent.endpoints import EndpointRecord, EndpointStore

from .runtime import Pod, Runtime, runtime, serving

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(200)]

WEB = Pod("c1")
VETH = veth_name("default", "web")
NEVER = 1 << 30


def devices() -> set[str]:
    return {name for _, name in socket.if_nameindex()} - {"lo"}


def stepping(fatal: int) -> None:
    """Number everything that changes something or asks the kernel, and die before number `fatal`."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    send, put, remove = NetlinkRequest.send, EndpointStore.put, EndpointStore.remove

    async def numbered_send(self: NetlinkRequest) -> None:
        step()
        await send(self)
        step()

    def numbered_put(self: EndpointStore, record: EndpointRecord) -> None:
        step()
        put(self, record)
        step()

    def numbered_remove(self: EndpointStore, container_id: str, ifname: str) -> EndpointRecord | None:
        step()
        removed = remove(self, container_id, ifname)
        step()
        return removed

    NetlinkRequest.send = numbered_send
    EndpointStore.put, EndpointStore.remove = numbered_put, numbered_remove  # type: ignore[method-assign]


@dataclass
class Host:
    rt: Runtime
    children: set[int] = field(default_factory=set)

    def start(self, fatal: int = NEVER) -> int:
        """An agent as a process of its own, which dies before its step number `fatal`."""
        self.rt.socket.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            try:
                asyncio.run(self._agent(fatal))
            finally:
                os._exit(1)
        self.children.add(child)
        deadline = time.monotonic() + 10
        while self.status() != 0:
            assert time.monotonic() < deadline, "the agent does not start"
            time.sleep(0.002)
        return child

    async def _agent(self, fatal: int) -> None:
        async with serving(self.rt.home) as agent:
            agent.entries.publish(WEB, "10.65.0.2", "fd65::2")
            stepping(fatal)
            await asyncio.Event().wait()

    def status(self) -> int:
        return asyncio.run(self.rt.execute("STATUS", {}, self.rt.config()))[0]

    def kill(self, child: int) -> None:
        os.kill(child, signal.SIGKILL)
        self.reap(child)

    def reap(self, child: int) -> None:
        os.waitpid(child, 0)
        self.children.discard(child)

    def add(self, pod: Pod = WEB) -> tuple[int, Any]:
        return asyncio.run(self.rt.add(pod))

    def delete(self, pod: Pod = WEB) -> tuple[int, Any]:
        return asyncio.run(self.rt.delete(pod))

    def whole(self, pod: Pod = WEB) -> None:
        """Attached, once, and as it should be."""
        assert asyncio.run(self.rt.check(pod)) == (0, None)
        assert devices() == {VETH}
        assert self.records() == {f"{pod.container}-eth0.json"}

    def clean(self) -> None:
        """Nothing is left of any sandbox."""
        assert devices() == set()
        assert self.records() == set()
        for path in (self.rt.home / "netns").iterdir():
            with path.open() as netns, inside(netns.fileno()):
                assert devices() == set()

    def records(self) -> set[str]:
        return {path.name for path in (self.rt.home / "run" / "endpoints").iterdir()}


@pytest.fixture
def host(tmp_path: Path, own_network: None) -> Iterator[Host]:
    with runtime(tmp_path) as rt:
        made = Host(rt)
        rt.start(WEB)
        try:
            yield made
        finally:
            for child in set(made.children):
                made.kill(child)


def died(outcome: tuple[int, Any]) -> bool:
    """The runtime was told to ask again."""
    status, answer = outcome
    assert status == 0 or answer["code"] == 11, answer
    return status != 0


@pytest.mark.parametrize("then", ["ADD", "DEL", "another sandbox"])
def test_killed_at_every_step_of_add(host: Host, then: str) -> None:
    other = replace(WEB, container="c2")
    host.rt.start(other)
    for fatal in range(1, 100):
        child = host.start(fatal)
        if not died(host.add()):
            host.kill(child)
            break
        host.reap(child)
        child = host.start()
        if then == "DEL":
            assert host.delete() == (0, None)
            host.clean()
        else:
            pod = WEB if then == "ADD" else other
            assert host.add(pod)[0] == 0
            host.whole(pod)
            assert host.delete(pod) == (0, None)
            assert host.delete() == (0, None)
            host.clean()
        host.kill(child)
    assert 20 < fatal < 99, "all steps"


def test_killed_at_every_step_of_del(host: Host) -> None:
    for fatal in range(1, 100):
        child = host.start()
        assert host.add()[0] == 0
        host.kill(child)
        child = host.start(fatal)
        if not died(host.delete()):
            host.kill(child)
            break
        host.reap(child)
        child = host.start()
        assert host.delete() == (0, None)
        host.clean()
        host.kill(child)
    assert 4 < fatal < 99, "all steps"


def test_killed_at_random_moments_of_many_calls(host: Host) -> None:
    """Sandbox after sandbox of one pod, ADD upon ADD and DEL, while the agent is killed under it."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    last = WEB
    for number in range(40):
        child = host.start()
        if chance.random() < 0.5:
            last = replace(WEB, container=f"r{number}")
            host.rt.start(last)
        call = host.rt.add(last) if chance.random() < 0.7 else host.rt.delete(last)

        async def under_fire(call: Any, child: int) -> tuple[int, Any]:
            task = asyncio.create_task(call)
            await asyncio.sleep(chance.uniform(0, 0.012))
            os.kill(child, signal.SIGKILL)
            return await task

        died(asyncio.run(under_fire(call, child)))
        host.reap(child)
    host.start()
    assert host.add(last)[0] == 0, seed
    host.whole(last)
    for path in (host.rt.home / "netns").iterdir():
        assert host.delete(replace(WEB, container=path.name)) == (0, None)
    host.clean()


def test_an_agent_that_comes_back_knows_its_pods(host: Host) -> None:
    child = host.start()
    _, answer = host.add()
    host.kill(child)
    host.start()
    assert host.add() == (0, answer)
    host.whole()
    assert json.loads(next((host.rt.home / "run" / "endpoints").iterdir()).read_bytes())["containerId"] == "c1"
