"""A lab: bring a cluster up, look at it, break and mend parts of it, enter it, take it down again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tortie.lab import binaries, bringup, components, controlplane
from tortie.lab.binaries import Progress
from tortie.lab.components import AGENT, CONTROL, NODE, OPERATOR, Address
from tortie.lab.errors import LabError
from tortie.lab.machine import Machine, end, inits, ip, run, together
from tortie.lab.plan import API_PORT, Plan, preferred_link

RUN = Path("/run/tortie-lab")
"""One directory a lab; with its machines ended, nothing else of a lab outlives them."""
POD_RECORDS = Path("run/tortie-kubelet/pods")
"""Where the kubelet stand-in of a node says which network namespace a pod has."""
HTTP_PORTS = {AGENT: 9091, OPERATOR: 9094}
GRACE = 3.0
"""Seconds that a component has to end by itself when it is stopped."""


class Lab:
    """A cluster by its name, whether it is up or not; all state is on the machine, so any process may hold one."""

    def __init__(self, name: str = "lab", say: Progress = lambda line: None) -> None:
        self.name = name
        self.directory = RUN / name
        self.kubeconfig = self.directory / "kubeconfig"
        self.say = say

    @property
    def plan(self) -> Plan:
        try:
            saved = json.loads((self.directory / "lab.json").read_bytes())
        except FileNotFoundError:
            raise LabError(f"there is no lab {self.name!r}: tortie lab up --name {self.name}") from None
        return Plan(**saved | {"without": tuple(saved["without"])})

    @property
    def server(self) -> str:
        """URL of the API server as the host reaches it."""
        return f"https://{self.plan.control_end.ip}:{API_PORT}"

    def machine(self, name: str) -> Machine:
        """`control`, `fabric`, `router` or a node."""
        return Machine(self.directory / "machines" / name)

    @property
    def control(self) -> Machine:
        return self.machine(CONTROL)

    # --- life ---------------------------------------------------------------------------------------------------

    async def up(self, nodes: int = 3, subnets: int = 1, without: Collection[str] = ()) -> None:
        """Returns when the API server is ready and, unless left out, nodes, agents and operator are.

        `without`: components that are not started, by their plain names.
        """
        programs = await asyncio.to_thread(binaries.find, self.say)
        plan = bringup.claim(self, Plan(self.name, nodes, subnets, preferred_link(self.name), tuple(sorted(without))))
        self.say(f"control plane {binaries.version(binaries.MODULE)} and {nodes} nodes in {subnets} subnet(s)")
        await bringup.bring_up(self, plan, programs)

    async def down(self) -> None:
        """Remove every trace of a lab of this name, whatever state it is in; without one, do nothing."""
        interface = Plan(
            self.name
        ).host_interface  # refuses a name that could not be a lab's before any path is removed
        while pids := inits(self.directory):
            await end(pids)
        if Path("/sys/class/net", interface).exists():
            await ip([f"link del {interface}"])
        if self.directory.exists():
            shutil.rmtree(self.directory)
        if RUN.exists() and not any(RUN.iterdir()):
            RUN.rmdir()

    async def wait_ready(self) -> None:
        """Return when the API server is ready."""
        await controlplane.wait_ready(str(self.plan.control_end.ip), self.directory / "pki")

    # --- components ---------------------------------------------------------------------------------------------

    def addresses(self, component: str) -> list[Address]:
        return components.parse(component, self.plan.node_names)

    async def stop(self, component: str, grace: float = GRACE) -> None:
        """End a component, or a node with all that runs on it, until `start`. `grace` 0 is kill -9."""

        async def one(address: Address) -> None:
            machine = self.machine(address.machine)
            await (machine.halt() if address.component == NODE else machine.stop(address.component, grace))

        await together(map(one, self.addresses(component)))

    async def start(self, component: str) -> None:
        """Start what was stopped, as it was started before."""
        plan = self.plan

        async def one(address: Address) -> None:
            if address.component == NODE:
                await bringup.return_node(self, plan, address.machine)
            else:
                await self.machine(address.machine).start_again(address.component)

        await together(map(one, self.addresses(component)))

    async def restart(self, component: str, grace: float = GRACE) -> None:
        """`stop` and `start`; for `node/NAME` that is a reboot: /run is empty, its disk is kept."""
        await self.stop(component, grace)
        await self.start(component)

    async def pid(self, component: str) -> int:
        """The host's pid of one component, as `agent/node1`; of a node, its init's. 0 while it is down."""
        (address,) = self.addresses(component)
        machine = self.machine(address.machine)
        if address.component == NODE:
            return machine.pid
        return next((part.pid for part in await machine.components() if part.name == address.component), 0)

    async def http(self, component: str, path: str) -> tuple[int, str]:
        """(status, body) of a GET on what one agent or the operator serves: /metrics, /livez, /readyz.

        ConnectionError if it is down.
        """
        (address,) = self.addresses(component)
        if address.component not in HTTP_PORTS:
            raise LabError(f"{component} serves nothing here, but {' and '.join(HTTP_PORTS)} do")
        return await self.machine(address.machine).http(HTTP_PORTS[address.component], path)

    async def wait_component(self, component: str, *, other_than: int = 0, patience: float = 60.0) -> None:
        """Return when an agent or the operator, as another process than `other_than`, says that it is ready."""
        said = "it is down"
        try:
            async with asyncio.timeout(patience):
                while True:
                    if await self.pid(component) not in (0, other_than):
                        with contextlib.suppress(ConnectionError):
                            status, said = await self.http(component, "/readyz")
                            if status == 200:
                                return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise LabError(f"{component} is not ready after {patience:.0f} s: {said.strip()}") from None

    async def status(self) -> dict[str, Any]:
        """What `tortie lab status -o json` prints."""
        plan = self.plan
        processes: list[dict[str, Any]] = []
        for name in (CONTROL, "fabric", "router", *plan.node_names):
            machine = self.machine(name)
            kind = NODE if name in plan.node_names else "machine"
            processes.append({"component": f"{kind}/{name}", "pid": machine.pid, "restarts": 0})
            for part in await machine.components() if machine.pid else ():
                address = Address(part.name, name)
                processes.append({"component": str(address), "pid": part.pid, "restarts": part.restarts})
        nodes = [
            {"name": name, "addresses": [str(plan.node(name).v4.ip), str(plan.node(name).v6.ip)]}
            for name in plan.node_names
        ]
        return {
            "name": self.name,
            "kubeconfig": str(self.kubeconfig),
            "server": self.server,
            "nodes": nodes,
            "processes": processes,
        }

    # --- inside -------------------------------------------------------------------------------------------------

    async def kubectl(self, *arguments: str, text: str = "") -> str:
        """What a kubectl command prints to stdout, as administrator of the cluster; `text` is its stdin."""
        return await run([*self.kubectl_command(), *arguments], text)

    def kubectl_command(self) -> list[str]:
        return [str(binaries.find(self.say)["kubectl"]), "--kubeconfig", str(self.kubeconfig)]

    def node_command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in a node's namespaces (or `control`'s, `fabric`'s, `router`'s)."""
        return self.machine(name).enter(argv)

    async def node_exec(self, name: str, argv: Sequence[str], text: str = "") -> str:
        return await run(self.node_command(name, argv), text)

    def pod_command(self, pod: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in the network namespace of pod `NAMESPACE/NAME`, on its node."""
        name, record = self.pod_record(pod)
        return self.node_command(name, ["nsenter", f"--net={record['netns']}", "--", *argv])

    async def pod_exec(self, pod: str, argv: Sequence[str], text: str = "") -> str:
        return await run(self.pod_command(pod, argv), text)

    def pod_record(self, pod: str) -> tuple[str, dict[str, Any]]:
        """(node, what its kubelet stand-in recorded) of pod `NAMESPACE/NAME`; needs no API server."""
        namespace, slash, name = pod.partition("/")
        if not slash:
            raise LabError(f"pod {pod!r}: write NAMESPACE/NAME")
        for machine in map(self.machine, self.plan.node_names):
            record = Path(f"/proc/{machine.pid}/root") / POD_RECORDS / f"{namespace}_{name}.json"
            if machine.pid and record.exists():
                return machine.name, json.loads(record.read_bytes())
        raise LabError(f"pod {pod} runs on no node of lab {self.name!r}")

    def logs(self, component: str | None = None) -> list[Path]:
        """Files that hold what a component printed, on each machine where it is; None: all that there are."""
        if component is None:
            self.plan  # noqa: B018 - says that there is no such lab
            return sorted(self.directory.glob("machines/*/log/*.log"))
        return [self.machine(at.machine).directory / "log" / f"{at.component}.log" for at in self.addresses(component)]
