"""Every order of commands for pods and for pods of the same name, against a model of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import subprocess
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tortie.api.internal import Endpoint, veth_name
from tortie.nodeagent.cni import attachments
from tortie.nodeagent.cni.netns import inside
from tortie.nodeagent.desired import HOST_MAC

from .runtime import Pod, Runtime, runtime, serving

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(280)]

NAMES = ("web", "api")
RECENT = 4
WHICH = st.integers(0, RECENT - 1)
EVENTS = (
    "a_sandbox_dies",
    "somebody_deletes_the_device",
    "an_add_was_cut_short",
    "the_agent_restarts",
    "the_agent_is_late",
)
COMMANDS = ("ADD", "ADD", "DEL", "DEL", "DEL", "CHECK", "GC")


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def devices(namespace: Path | None = None) -> set[str]:
    with contextlib.ExitStack() as stack:
        if namespace:
            stack.enter_context(inside(stack.enter_context(namespace.open()).fileno()))
        return {name for _, name in socket.if_nameindex()} - {"lo"}


@dataclass
class Sandbox:
    pod: Pod
    alive: bool = True


class Machine(RuleBasedStateMachine):
    """Model: of each pod's name the last sandbox that was added has the record, and the device unless that broke."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.home = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.rt: Runtime = self.stack.enter_context(runtime(self.home))
        self.loop = asyncio.new_event_loop()
        self.serving = contextlib.AsyncExitStack()
        self.count = itertools.count(1)
        self.sandboxes: list[Sandbox] = []
        self.uids: dict[str, str] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.owner: dict[str, Sandbox] = {}
        """Pod name → whose record there is."""
        self.devices: dict[str, Sandbox] = {}
        """Pod name → in whose sandbox the other end is."""
        self.left_over: set[str] = set()
        """Names whose device is of an ADD that was cut short."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.start_agent()
        for name in NAMES:
            self.a_sandbox_is_started(name, of_a_new_pod=True, added=False)

    def start_agent(self) -> None:
        self.agent = self.run(self.serving.enter_async_context(serving(self.home)))
        self.agent.entries.endpoints = self.endpoints

    def teardown(self) -> None:
        self.run(self.serving.aclose())
        self.loop.close()
        for name in devices():
            sh(f"ip link del {name}")
        self.stack.close()

    def some(self, number: int) -> Sandbox:
        """One of the last few: what is older meets nobody any more."""
        recent = self.sandboxes[-RECENT:]
        return recent[number % len(recent)]

    def lose(self, name: str) -> None:
        """Its device is gone."""
        self.devices.pop(name, None)
        self.left_over.discard(name)

    # The world around

    @rule(name=st.sampled_from(NAMES), of_a_new_pod=st.booleans(), added=st.booleans())
    def a_sandbox_is_started(self, name: str, of_a_new_pod: bool, added: bool) -> None:
        """While the one before it may still be there, and attached."""
        number = next(self.count)
        if of_a_new_pod:
            self.uids[name] = f"u{number}"
        pod = Pod(f"c{number}", name=name, uid=self.uids[name])
        if of_a_new_pod:
            self.agent.entries.publish(pod, f"10.65.0.{number}", f"fd65::{number}")
        self.rt.start(pod)
        self.sandboxes.append(Sandbox(pod))
        if added:
            self.add(self.sandboxes[-1])

    @rule(event=st.sampled_from(EVENTS), number=WHICH)
    def something_happens(self, event: str, number: int) -> None:
        getattr(self, event)(self.some(number))

    def a_sandbox_dies(self, sandbox: Sandbox) -> None:
        if sandbox.alive:
            self.rt.stop(sandbox.pod)
            sandbox.alive = False
            for name in [name for name, holder in self.devices.items() if holder is sandbox]:
                self.lose(name)
            deadline = time.monotonic() + 10  # the kernel does it when it likes
            while devices() != {veth_name("default", name) for name in self.devices}:
                assert time.monotonic() < deadline
                time.sleep(0.005)

    def somebody_deletes_the_device(self, sandbox: Sandbox) -> None:
        if (name := sandbox.pod.name) in self.devices:
            sh(f"ip link del {veth_name('default', name)}")
            self.lose(name)

    def an_add_was_cut_short(self, sandbox: Sandbox) -> None:
        name = sandbox.pod.name
        if sandbox.alive and name not in self.devices:
            path, host = self.rt.sandbox(sandbox.pod.container), veth_name("default", name)
            sh(f"ip link add {host} address {HOST_MAC} type veth peer name eth0; ip link set eth0 netns {path}")
            self.devices[name] = sandbox
            self.left_over.add(name)

    def the_agent_restarts(self, sandbox: Sandbox) -> None:
        self.run(self.serving.aclose())
        self.start_agent()

    def the_agent_is_late(self, sandbox: Sandbox) -> None:
        """Or is not any more."""
        self.agent.entries.late = not self.agent.entries.late

    # The runtime

    @rule(command=st.sampled_from(COMMANDS), number=WHICH, netns=st.booleans(), args=st.booleans())
    def the_runtime_calls(self, command: str, number: int, netns: bool, args: bool) -> None:
        sandbox = self.some(number)
        if command == "DEL":
            self.delete(sandbox, netns, args)
        elif command == "ADD":
            self.add(sandbox)
        elif command == "GC":
            self.collect(sandbox)
        else:
            self.check(sandbox)

    def add(self, sandbox: Sandbox) -> None:
        pod = sandbox.pod
        status, answer = self.run(self.rt.add(pod))
        if pod.uid != self.uids[pod.name]:
            assert (status, answer["code"]) == (1, 11 if sandbox.alive else 4)
        elif not sandbox.alive:
            assert (status, answer["code"]) == (1, 4)
        else:
            assert status == 0, answer
            addresses = self.endpoints[f"default/{pod.name}"].addresses
            assert [each["address"].split("/")[0] for each in answer["ips"]] == list(addresses)
            self.owner[pod.name] = self.devices[pod.name] = sandbox
            self.left_over.discard(pod.name)
            assert self.run(self.rt.add(pod)) == (0, answer)
            self.check(sandbox)

    def delete(self, sandbox: Sandbox, netns: bool, args: bool) -> None:
        name = sandbox.pod.name
        less = ({} if netns else {"CNI_NETNS": ""}) | ({} if args else {"CNI_ARGS": ""})
        assert self.run(self.rt.delete(sandbox.pod, **less)) == (0, None)
        if self.owner.get(name) is sandbox or (args and name in self.left_over):
            self.lose(name)
        if self.owner.get(name) is sandbox:
            del self.owner[name]

    def check(self, sandbox: Sandbox) -> None:
        name, container = sandbox.pod.name, sandbox.pod.container
        if container not in self.rt.results:
            return
        status, answer = self.run(self.rt.check(sandbox.pod))
        if not sandbox.alive:
            assert (status, answer["code"]) == (1, 4)
        elif self.owner.get(name) is not sandbox:
            assert (status, answer["code"]) == (1, 3)
        elif name not in self.devices or name in self.left_over or self.agent.entries.late:
            assert (status, answer["code"]) == (1, 102)
        else:
            assert (status, answer) == (0, None)

    def collect(self, sandbox: Sandbox) -> None:
        """The runtime has forgotten this one."""
        valid = [other for other in self.sandboxes if other is not sandbox]
        assert self.run(self.rt.collect(*(sandbox.pod for sandbox in valid))) == (0, None)
        for name in NAMES:
            if name in self.owner and self.owner[name] not in valid:
                del self.owner[name]
                self.lose(name)
            elif name in self.left_over:
                self.lose(name)

    # What always holds

    @invariant()
    def the_records_are_the_models(self) -> None:
        if hasattr(self, "agent"):
            owners = {sandbox.pod.container for sandbox in self.owner.values()}
            assert {record.container_id for record in self.agent.store.all()} == owners
            files = {path.name for path in (self.home / "run" / "endpoints").iterdir()}
            assert files == {f"{container}-eth0.json" for container in owners}

    @invariant()
    def the_devices_are_the_models(self) -> None:
        assert devices() == {veth_name("default", name) for name in self.devices}
        for sandbox in self.sandboxes[-2 * RECENT :]:
            if sandbox.alive:
                holds = self.devices.get(sandbox.pod.name) is sandbox
                assert devices(self.rt.sandbox(sandbox.pod.container)) == ({"eth0"} if holds else set())


def test_any_order_of_commands_does_what_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "ENTRY_WITHIN", 0.01)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
