"""Bringing a lab up, step by step, and a node of it up again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tortie.lab import binaries, controlplane, fabric, install, node, pki
from tortie.lab.components import AGENT, KUBELET, OPERATOR
from tortie.lab.controlplane import APISERVER
from tortie.lab.errors import LabError
from tortie.lab.machine import MachineError, together
from tortie.lab.plan import LINK_COUNT, Plan

if TYPE_CHECKING:
    from tortie.lab.lab import Lab


async def bring_up(lab: Lab, plan: Plan, programs: Mapping[str, Path]) -> None:
    secrets = controlplane.issue(plan, lab.directory / "pki")
    await boot_infrastructure(lab, plan)
    for name in plan.node_names:
        node.write_config(plan, lab.machine(name), secrets.authority)
        node.install_plugins(lab.machine(name))
    booting = [boot_node(lab, plan, name) for name in plan.node_names]
    await together([start_control_plane(lab, plan, secrets, programs), *booting])
    lab.say("API server is ready, the nodes have booted")
    await install_tortie(lab, plan)
    await together(start_node(lab, plan, name, programs["kube-proxy"]) for name in plan.node_names)
    await wait_nodes(lab, plan)


def claim(lab: Lab, plan: Plan) -> Plan:
    """Take the name and a link to the host that no other lab has; the plan with that link, saved."""
    lab.directory.parent.mkdir(exist_ok=True)
    taken = {json.loads(file.read_bytes())["link"] for file in lab.directory.parent.glob("*/lab.json")}
    link = plan.link
    while link in taken:
        link = (link + 1) % LINK_COUNT
    try:
        lab.directory.mkdir()
    except FileExistsError:
        raise LabError(f"lab {lab.name!r} exists already: tortie lab down --name {lab.name}") from None
    pki.write_private(lab.directory / "lab.json", json.dumps(asdict(plan) | {"link": link}).encode())
    return lab.plan


async def boot_infrastructure(lab: Lab, plan: Plan) -> None:
    router, bridges = lab.machine("router"), lab.machine("fabric")
    await together(machine.boot() for machine in (lab.control, router, bridges))
    await fabric.build(plan, bridges, router)
    await fabric.connect(plan, bridges, lab.control, 0, plan.control)
    await fabric.connect_host(plan, lab.control)


async def start_control_plane(
    lab: Lab, plan: Plan, secrets: controlplane.Secrets, programs: Mapping[str, Path]
) -> None:
    """etcd and API server; once that is ready, what would end without it."""
    pki.write_kubeconfig(lab.kubeconfig, lab.server, secrets.authority.pair.certificate, secrets.admin)
    controlplane.write_kubeconfigs(secrets, lab.control)
    for component, argv in controlplane.commands(plan, secrets, programs, lab.control).items():
        if component not in plan.without:
            await lab.control.start(component, argv)
        if component == APISERVER:
            await lab.wait_ready()


async def boot_node(lab: Lab, plan: Plan, name: str) -> None:
    machine = lab.machine(name)
    await machine.boot(node=True)
    await fabric.connect(plan, lab.machine("fabric"), machine, plan.subnet(name), plan.node(name))


async def install_tortie(lab: Lab, plan: Plan) -> None:
    """CRDs, accounts and roles; then the operator."""
    if plan.nodes or OPERATOR not in plan.without:
        await lab.kubectl("apply", "--server-side", "-f", str(install.CRDS), "-f", "-", text=install.manifest())
    if OPERATOR in plan.without:
        return
    directory = lab.control.directory / "kubeconfig"
    token = directory / "tortie-operator.token"
    await install.write_token(lab.kubectl, token, install.OPERATOR_ACCOUNT)
    kubeconfig = directory / OPERATOR
    pki.write_kubeconfig(kubeconfig, node.server(plan), lab.directory / "pki" / "ca.crt", token)
    await lab.control.start(OPERATOR, install.operator_command(kubeconfig))
    lab.say("operator is started")


async def start_node(lab: Lab, plan: Plan, name: str, proxy: Path) -> None:
    """The components of a booted node. The agent comes last: its token is bound to the Node object."""
    machine = lab.machine(name)
    for component, argv in node.commands(name, proxy).items():
        if component in plan.without:
            continue
        if component == AGENT:
            await issue_agent_token(lab, name)
        await machine.start(component, argv)


async def issue_agent_token(lab: Lab, name: str) -> None:
    """A token bound to the present Node object of that name, once there is one."""
    await lab.kubectl("wait", "--for=create", f"node/{name}", "--timeout=30s")
    uid = await lab.kubectl("get", f"node/{name}", "-o", "jsonpath={.metadata.uid}")
    path = node.config_directory(lab.machine(name)) / node.AGENT_TOKEN
    await install.write_token(lab.kubectl, path, install.AGENT_ACCOUNT, (name, uid))


async def return_node(lab: Lab, plan: Plan, name: str) -> None:
    """Boot a node that was halted: the same disk, the same components."""
    with contextlib.suppress(MachineError):  # the kernel may have removed the old cable already
        await fabric.unplug(lab.machine("fabric"), name)
    await boot_node(lab, plan, name)
    for component, argv in node.commands(name, binaries.find(lab.say)["kube-proxy"]).items():
        if component not in plan.without:
            await lab.machine(name).start(component, argv)


async def wait_nodes(lab: Lab, plan: Plan) -> None:
    if not plan.nodes or KUBELET in plan.without or AGENT in plan.without:
        return
    lab.say("waiting for the nodes")
    try:
        await lab.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
    except MachineError as error:
        raise LabError(f"not all nodes are ready: {await _complaints(lab, plan)}") from error
    await lab.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")  # else no pod can be made
    lab.say("all nodes are ready")


async def _complaints(lab: Lab, plan: Plan) -> str:
    """What the operator and the agents say about why they are not ready."""
    said = []
    for component in (OPERATOR, *(f"{AGENT}/{name}" for name in plan.node_names)):
        try:
            status, text = await lab.http(component, "/readyz")
        except (OSError, LabError):
            status, text = 0, f"does not answer; its log ends with {_last_line(lab.logs(component)[0])!r}"
        if status != 200:
            said.append(f"{component}: {text.strip()}")
    return "; ".join(said) or "operator and agents say that they are; see tortie lab logs"


def _last_line(log: Path) -> str:
    return log.read_text().strip().rpartition("\n")[2] if log.exists() else ""
