"""How the parts of a lab are called: `apiserver`, `operator`, `agent/node2`, `node/node2`, `agent` for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tortie.lab.controlplane import APISERVER, CONTROLLERS, ETCD, SCHEDULER
from tortie.lab.errors import LabError

OPERATOR, AGENT, KUBELET, PROXY, NODE = "operator", "agent", "kubelet", "kube-proxy", "node"

CONTROL = "control"
"""The machine of the control plane and the operator."""
ON_CONTROL = (ETCD, APISERVER, CONTROLLERS, SCHEDULER, OPERATOR)
ON_NODES = (KUBELET, PROXY, AGENT)


@dataclass(frozen=True)
class Address:
    """A component on a machine, or (`component` is NODE) a whole node."""

    component: str
    machine: str

    def __str__(self) -> str:
        return self.component if self.machine == CONTROL else f"{self.component}/{self.machine}"


def parse(text: str, nodes: Sequence[str]) -> list[Address]:
    """The components that `text` means in a lab of these nodes. LabError says what it could have been."""
    component, slash, node = text.partition("/")
    if component in ON_CONTROL and not slash:
        return [Address(component, CONTROL)]
    if component in (*ON_NODES, NODE):
        if not slash:
            return [Address(component, name) for name in nodes]
        if node in nodes:
            return [Address(component, node)]
        raise LabError(f"{text!r}: there is no node {node!r}, but {', '.join(nodes) or 'none at all'}")
    raise LabError(
        f"{text!r} is no component: {', '.join(ON_CONTROL)}, or {', '.join((*ON_NODES, NODE))} of all nodes or of one "
        f"as in {AGENT}/node1"
    )
