"""The application as it runs: its pods, and everything that they may connect to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tortie.lab import Lab
from tortie.lab.binaries import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "shop"
NAMESPACE = "shop"
FAMILIES = ("4", "6")

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Column:
    """Somewhere to connect to: a pod's or a Service's port, at its addresses of both families."""

    title: str
    protocol: str
    addresses: tuple[str, ...]
    port: int
    backends: tuple[tuple[Json, int], ...]
    """The pods that may answer, each with the port at which it does."""
    is_service: bool = False

    def target(self, family: str) -> str | None:
        """What `traffic.py` is given; None without an address of that family."""
        address = of_family(self.addresses, family)
        return f"{self.protocol}:{f'[{address}]' if family == '6' else address}:{self.port}" if address else None

    @property
    def answers(self) -> frozenset[str]:
        return frozenset(name(pod) for pod, _ in self.backends)


@dataclass(frozen=True)
class Shop:
    pods: Sequence[Json]
    columns: Sequence[Column]

    def on(self, node: str) -> list[Json]:
        return [pod for pod in self.pods if node_of(pod) == node]


async def deploy(lab: Lab) -> Shop:
    """Returns when all of it runs and is ready."""
    await lab.kubectl("apply", "--server-side", "-f", str(EXAMPLE / "shop.yaml"))
    for what in ("deployment/frontend", "deployment/catalogue", "statefulset/db"):
        await lab.kubectl("-n", NAMESPACE, "rollout", "status", what, "--timeout=60s")
    pods = await listed(lab, "pods")
    return Shop(pods, columns(pods, await listed(lab, "services")))


async def listed(lab: Lab, what: str) -> list[Json]:
    items: list[Json] = json.loads(await lab.kubectl("-n", NAMESPACE, "get", what, "-o", "json"))["items"]
    return items


def columns(pods: Sequence[Json], services: Sequence[Json]) -> list[Column]:
    """The first port of each pod, then every port of each Service."""
    found = []
    for number, pod in enumerate(pods, 1):
        port = ports(pod)[0]["containerPort"]
        found.append(Column(str(number), "tcp", addresses(pod), port, ((pod, port),)))
    for service in services:
        labels = service["spec"]["selector"].items()
        behind = [pod for pod in pods if labels <= pod["metadata"]["labels"].items()]
        for port in service["spec"]["ports"]:
            protocol = port["protocol"].lower()
            title = name(service) + ("" if protocol == "tcp" else f" {protocol}")
            backends = tuple((pod, container_port(pod, port["targetPort"])) for pod in behind)
            ips = tuple(service["spec"]["clusterIPs"])
            found.append(Column(title, protocol, ips, port["port"], backends, is_service=True))
    return found


def ports(pod: Json) -> list[Json]:
    found: list[Json] = pod["spec"]["containers"][0]["ports"]
    return found


def container_port(pod: Json, of_name: str) -> int:
    numbers: dict[str, int] = {port["name"]: port["containerPort"] for port in ports(pod)}
    return numbers[of_name]


def addresses(pod: Json) -> tuple[str, ...]:
    return tuple(ip["ip"] for ip in pod["status"]["podIPs"])


def of_family(ips: Sequence[str], family: str) -> str | None:
    return next((address for address in ips if (":" in address) == (family == "6")), None)


def is_ready(pod: Json) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"])


def app(pod: Json) -> str:
    label: str = pod["metadata"]["labels"]["app"]
    return label


def name(obj: Json) -> str:
    found: str = obj["metadata"]["name"]
    return found


def node_of(pod: Json) -> str:
    node: str = pod["spec"]["nodeName"]
    return node
