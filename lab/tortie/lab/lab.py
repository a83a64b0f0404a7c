"""A lab: bring a cluster up, look at it, break and mend parts of it, enter it, take it down again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tortie.lab import binaries, components, controlplane, fabric, install, node, pki
from tortie.lab.binaries import Progress
from tortie.lab.components import AGENT, CONTROL, KUBELET, NODE, OPERATOR, Address
from tortie.lab.controlplane import APISERVER
from tortie.lab.errors import LabError
from tortie.lab.machine import Machine, MachineError, end, inits, ip, run, together
from tortie.lab.plan import API_PORT, LINK_COUNT, Plan, preferred_link

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
        plan = self._claim(Plan(self.name, nodes, subnets, preferred_link(self.name), tuple(sorted(without))))
        self.say(f"control plane {binaries.version(binaries.MODULE)} and {nodes} nodes in {subnets} subnet(s)")
        secrets = controlplane.issue(plan, self.directory / "pki")
        await self._boot_infrastructure(plan)
        for name in plan.node_names:
            node.write_config(plan, self.machine(name), secrets.authority)
            node.install_plugins(self.machine(name))
        booting = [self._boot_node(plan, name) for name in plan.node_names]
        await together([self._start_control_plane(plan, secrets, programs), *booting])
        self.say("API server is ready, the nodes have booted")
        await self._install(plan)
        await together(self._start_node(plan, name, programs["kube-proxy"]) for name in plan.node_names)
        await self._wait_nodes(plan)

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
                await self._return_node(plan, address.machine)
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

    # --- steps of `up` ------------------------------------------------------------------------------------------

    def _claim(self, plan: Plan) -> Plan:
        """Take the name and a link to the host that no other lab has; the plan with that link, saved."""
        RUN.mkdir(exist_ok=True)
        taken = {json.loads(file.read_bytes())["link"] for file in RUN.glob("*/lab.json")}
        link = plan.link
        while link in taken:
            link = (link + 1) % LINK_COUNT
        try:
            self.directory.mkdir()
        except FileExistsError:
            raise LabError(f"lab {self.name!r} exists already: tortie lab down --name {self.name}") from None
        (self.directory / "lab.json").write_text(json.dumps(asdict(plan) | {"link": link}))
        return self.plan

    async def _boot_infrastructure(self, plan: Plan) -> None:
        router, bridges = self.machine("router"), self.machine("fabric")
        await together(machine.boot() for machine in (self.control, router, bridges))
        await fabric.build(plan, bridges, router)
        await fabric.connect(plan, bridges, self.control, 0, plan.control)
        await fabric.connect_host(plan, self.control)

    async def _start_control_plane(self, plan: Plan, secrets: controlplane.Secrets, programs: dict[str, Path]) -> None:
        """etcd and API server; once that is ready, what would end without it."""
        pki.write_kubeconfig(self.kubeconfig, self.server, secrets.authority.pair.certificate, secrets.admin)
        controlplane.write_kubeconfigs(secrets, self.control)
        for component, argv in controlplane.commands(plan, secrets, programs, self.control).items():
            if component not in plan.without:
                await self.control.start(component, argv)
            if component == APISERVER:
                await self.wait_ready()

    async def _boot_node(self, plan: Plan, name: str) -> None:
        machine = self.machine(name)
        await machine.boot(node=True)
        await fabric.connect(plan, self.machine("fabric"), machine, plan.subnet(name), plan.node(name))

    async def _install(self, plan: Plan) -> None:
        """CRDs, accounts and roles; then the operator."""
        if plan.nodes or OPERATOR not in plan.without:
            await self.kubectl("apply", "--server-side", "-f", str(install.CRDS), "-f", "-", text=install.manifest())
        if OPERATOR in plan.without:
            return
        directory = self.control.directory / "kubeconfig"
        token = directory / "tortie-operator.token"
        await self._write_token(token, install.OPERATOR_ACCOUNT)
        kubeconfig = directory / OPERATOR
        pki.write_kubeconfig(kubeconfig, node.server(plan), self.directory / "pki" / "ca.crt", token)
        await self.control.start(OPERATOR, install.operator_command(kubeconfig))
        self.say("operator is started")

    async def _start_node(self, plan: Plan, name: str, proxy: Path) -> None:
        """The components of a booted node. The agent comes last: its token is bound to the Node object."""
        machine = self.machine(name)
        for component, argv in node.commands(name, proxy).items():
            if component in plan.without:
                continue
            if component == AGENT:
                await self.issue_agent_token(name)
            await machine.start(component, argv)

    async def issue_agent_token(self, name: str) -> None:
        """A token bound to the present Node object of that name, once there is one."""
        await self.kubectl("wait", "--for=create", f"node/{name}", "--timeout=30s")
        uid = await self.kubectl("get", f"node/{name}", "-o", "jsonpath={.metadata.uid}")
        await self._write_token(
            node.config_directory(self.machine(name)) / node.AGENT_TOKEN, install.AGENT_ACCOUNT, (name, uid)
        )

    async def _write_token(self, path: Path, account: str, node_object: tuple[str, str] | None = None) -> None:
        target, body = install.token_request(account, node_object)
        answer = json.loads(await self.kubectl("create", "--raw", target, "-f", "-", text=body))
        pki.write_private(path, answer["status"]["token"].encode())

    async def _return_node(self, plan: Plan, name: str) -> None:
        """Boot a node that was halted: the same disk, the same components."""
        with contextlib.suppress(MachineError):  # the kernel may have removed the old cable already
            await fabric.unplug(self.machine("fabric"), name)
        await self._boot_node(plan, name)
        for component, argv in node.commands(name, binaries.find(self.say)["kube-proxy"]).items():
            if component not in plan.without:
                await self.machine(name).start(component, argv)

    async def _wait_nodes(self, plan: Plan) -> None:
        if not plan.nodes or KUBELET in plan.without or AGENT in plan.without:
            return
        self.say("waiting for the nodes")
        await self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
        self.say("all nodes are ready")
