"""`make demo`: a cluster of three nodes, a small application on it, and what a pod network owes to it.

Each expectation is printed with `ok` or `FAILED`; the exit code is 0 only if all held. The cluster stays up, to be
looked at; run again, the demo removes it and makes a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tortie.lab import Lab, LabError
from tortie.lab.binaries import ROOT
from tortie.lab.traffic import COMMAND

NAME, NODES = "demo", 3
MANIFEST = ROOT / "docs" / "examples" / "shop" / "shop.yaml"
NAMESPACE = "shop"
FAMILIES = {"4": 0, "6": 1}
PROXY_PATIENCE = 10.0
SETTLE = 2.0
"""Seconds of traffic before the agent is killed, and after it is back."""

Json = dict[str, Any]


class Expectations:
    def __init__(self) -> None:
        self.failed = 0

    def expect(self, held: bool, what: str) -> None:
        print(f"  {'ok    ' if held else 'FAILED'}  {what}", flush=True)
        self.failed += not held


@dataclass(frozen=True)
class Column:
    """Somewhere to connect to: a pod's or a Service's port, at its addresses of both families."""

    title: str
    protocol: str
    addresses: tuple[str, ...]
    port: int
    answers: frozenset[str]
    """The pods that may answer."""

    def target(self, family: str) -> str | None:
        """What `traffic.py` is given; None without an address of that family."""
        found = [address for address in self.addresses if (":" in address) == (family == "6")]
        return f"{self.protocol}:{_bracketed(found[0])}:{self.port}" if found else None


@dataclass(frozen=True)
class Shop:
    """The application as it runs."""

    pods: Sequence[Json]
    columns: Sequence[Column]

    def on(self, node: str) -> list[Json]:
        return [pod for pod in self.pods if pod["spec"]["nodeName"] == node]


async def main() -> int:
    expectations = Expectations()
    started = time.monotonic()
    lab = Lab(NAME, lambda line: print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True))
    await bring_up(lab)
    shop = await deploy(lab)
    expectations.expect(True, f"{len(shop.pods)} pods on {len({_node(pod) for pod in shop.pods})} nodes are ready")
    await show_connectivity(lab, shop, expectations)
    await kill_an_agent(lab, shop, expectations)
    farewell(lab)
    return 1 if expectations.failed else 0


async def bring_up(lab: Lab) -> None:
    headline(f"A cluster of {NODES} nodes: control plane, operator and an agent a node")
    await lab.down()
    await lab.up(NODES)


async def deploy(lab: Lab) -> Shop:
    headline(f"A small shop: kubectl apply -f {MANIFEST.relative_to(ROOT)}")
    await lab.kubectl("apply", "--server-side", "-f", str(MANIFEST))
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
        port = pod["spec"]["containers"][0]["ports"][0]
        ips = tuple(ip["ip"] for ip in pod["status"]["podIPs"])
        found.append(Column(str(number), "tcp", ips, port["containerPort"], frozenset({_name(pod)})))
    for service in services:
        labels = service["spec"]["selector"].items()
        backends = frozenset(_name(pod) for pod in pods if labels <= pod["metadata"]["labels"].items())
        for port in service["spec"]["ports"]:
            protocol = port["protocol"].lower()
            title = _name(service) + ("" if protocol == "tcp" else f" {protocol}")
            found.append(Column(title, protocol, tuple(service["spec"]["clusterIPs"]), port["port"], backends))
    return found


# --- connectivity -----------------------------------------------------------------------------------------------


async def show_connectivity(lab: Lab, shop: Shop, expectations: Expectations) -> None:
    """Everyone to everyone: in each cell the families over which the right pod answered."""
    headline("Who reaches whom (rows: from; columns: the pods by number, then the Services; 4 and 6: IPv4 and IPv6)")
    await services_programmed(lab, shop)
    rows = await asyncio.gather(*(reached(lab, pod, shop.columns) for pod in shop.pods))
    print_matrix(shop, rows)
    cells = [cell for row in rows for cell in row]
    good = sum(len(cell) for cell in cells)
    expectations.expect(
        good == len(FAMILIES) * len(cells), f"{good} of {len(FAMILIES) * len(cells)} paths lead to the right pod"
    )


async def services_programmed(lab: Lab, shop: Shop) -> None:
    """Wait a little for kube-proxy, which follows a Service's endpoints a second or two later; who waits in vain is
    told by the matrix."""
    services = [column for column in shop.columns if not column.title.isdigit()]
    a_pod_each = {_node(pod): pod for pod in shop.pods}.values()
    deadline = time.monotonic() + PROXY_PATIENCE
    while time.monotonic() < deadline:
        rows = await asyncio.gather(*(reached(lab, pod, services) for pod in a_pod_each))
        if all(len(cell) == len(FAMILIES) for row in rows for cell in row):
            return


async def reached(lab: Lab, pod: Json, to: Sequence[Column]) -> list[str]:
    """For each column the families over which one of the pods that may answer did."""
    targets = {(column, family): column.target(family) for column in to for family in FAMILIES}
    asked = [target for target in targets.values() if target]
    said = json.loads(await lab.pod_exec(f"{NAMESPACE}/{_name(pod)}", [*COMMAND, "reach", *asked]))
    answers = {path["target"]: path.get("answer") for path in said["paths"]}
    return ["".join(f for f in FAMILIES if answers.get(targets[column, f] or "") in column.answers) for column in to]


def print_matrix(shop: Shop, rows: Sequence[Sequence[str]]) -> None:
    labels = [f"{number} {_name(pod)} ({_node(pod)})" for number, pod in enumerate(shop.pods, 1)]
    width = max(map(len, labels))
    widths = [max(len(column.title), len(FAMILIES)) for column in shop.columns]
    print("  " + " " * width + "".join(f"  {c.title:<{w}}" for c, w in zip(shop.columns, widths, strict=True)))
    for label, row in zip(labels, rows, strict=True):
        print(f"  {label:<{width}}" + "".join(f"  {cell or '·':<{w}}" for cell, w in zip(row, widths, strict=True)))


# --- an agent dies under traffic --------------------------------------------------------------------------------


async def kill_an_agent(lab: Lab, shop: Shop, expectations: Expectations) -> None:
    """Connections to, from and within a node, open ones and new ones, while its agent is killed and comes back."""
    node = _node(shop.pods[0])
    headline(f"The agent of {node} is killed with -9 under traffic")
    outside = next(pod for pod in shop.pods if _node(pod) != node)
    targets = [target for column in shop.columns for family in FAMILIES if (target := column.target(family))]
    clients = [shop.on(node)[0], outside]
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(Stream(lab, _name(pod), targets)) for pod in clients]
        await asyncio.sleep(SETTLE)
        before = await lab.pid(f"agent/{node}")
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        await lab.wait_component(f"agent/{node}", other_than=before)
        lab.say(f"it is back and ready after {time.monotonic() - killed:.1f} s")
        await asyncio.sleep(SETTLE)
        results = [await stream.result() for stream in streams]
    kept, opened, exchanges = (sum(r[key] for r in results) for key in ("established", "opened", "exchanges"))
    lost = [line for r in results for line in r["lost"]]
    failed = [line for r in results for line in r["failed"]]
    longest = max(r["longest_ms"] for r in results)
    for line in [*lost, *failed][:10]:
        print(f"          {line}")
    expectations.expect(
        kept > 0 and not lost,
        f"connections lost: {len(lost)} of {kept} ({exchanges} exchanges, the slowest {longest:.0f} ms)",
    )
    expectations.expect(opened > 0 and not failed, f"new connections refused: {len(failed)} of {opened}")


class Stream:
    """`traffic.py stream` in a pod; entered once its connections are under way."""

    def __init__(self, lab: Lab, pod: str, targets: Sequence[str]) -> None:
        self._command = lab.pod_command(f"{NAMESPACE}/{pod}", [*COMMAND, "stream", *targets])

    async def __aenter__(self) -> Stream:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        await self._process.stdout.readline()
        return self

    async def result(self) -> Json:
        """End it, and learn what it saw."""
        out, _ = await self._process.communicate(b"")
        result: Json = json.loads(out)
        return result

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


# --- words ------------------------------------------------------------------------------------------------------


def headline(text: str) -> None:
    print(f"\n{text}", flush=True)


def farewell(lab: Lab) -> None:
    headline("The cluster stays up. Go on with")
    print(
        f"""
  export KUBECONFIG={lab.kubeconfig}
  .venv/bin/tortie lab kubectl --name {NAME} -- get pods -A -o wide     (or any kubectl)
  .venv/bin/tortie lab exec --name {NAME} {NAMESPACE}/db-0 -- ip address
  .venv/bin/tortie lab kubectl --name {NAME} -- get nodestates,nodepeers
  .venv/bin/tortie lab logs --name {NAME} agent/node1
  make demo-down
"""
    )


def _name(obj: Json) -> str:
    name: str = obj["metadata"]["name"]
    return name


def _node(pod: Json) -> str:
    node: str = pod["spec"]["nodeName"]
    return node


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("the demo needs root: it makes namespaces, interfaces and mounts")
    try:
        sys.exit(asyncio.run(main()))
    except LabError as error:
        sys.exit(f"  FAILED  {error}")
