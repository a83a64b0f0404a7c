"""Where policy is tried: a pod that serves, clients near and far, in its namespace and in another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tortie.api.internal import compiled_name
from tortie.lab.lab import Lab
from tortie.lab.traffic import COMMAND
from tortie.policy.build import records
from tortie.policy.convert import Policy, convert

from .cluster import Corner, Json, addresses, answers, pod, target

CLIENT = Path(__file__).with_name("client.py")
PATIENCE = "1.3"
"""Seconds: a lost SYN is sent again after one."""
EVERYBODY = frozenset({"near", "far", "stranger", "neighbour", "visitor"})
"""near and neighbour live on web's node, the others on the next; neighbour and visitor in another namespace; all but
the stranger have the label `role: client`."""
CALICO = "projectcalico.org/v3"


@dataclass(frozen=True)
class Stage:
    home: Corner
    other: Corner
    web: Json
    """The pod that serves `http` (TCP 80), `admin` (TCP 81) and `dns` (UDP 53)."""
    pods: dict[str, Json]
    applied: list[Json]
    """Policies and tiers of the test that runs."""

    @property
    def lab(self) -> Lab:
        return self.home.lab

    # --- policies -----------------------------------------------------------------------------------------------

    async def enforce(self, *manifests: Json) -> None:
        """Apply; returns when each policy is in force, in the version that was applied."""
        for (status, generation), manifest in zip(await self.apply(*manifests), manifests, strict=True):
            if manifest["kind"] != "Tier":
                await self.in_force(status, generation)

    async def apply(self, *manifests: Json) -> list[tuple[str, int]]:
        """PolicyStatus and generation of each."""
        self.applied.extend(m for m in manifests if m not in self.applied)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        said = await self.home.kubectl(
            "apply", "--server-side", "--force-conflicts", "-o", "json", "-f", "-", text=text
        )
        found = json.loads(said)
        items = found["items"] if found["kind"] == "List" else [found]
        return [(status_of(item), item["metadata"]["generation"]) for item in items]

    async def in_force(self, status: str, generation: int) -> None:
        await self.home.wait("create", status, seconds=20)
        if generation > 1:  # until it tells of this version, it tells of the one before
            await self.home.wait(f"jsonpath={{.spec.source.generation}}={generation}", status, seconds=20)
        await self.home.wait("condition=Enforced", status, seconds=20)

    async def withdraw(self) -> None:
        """Delete the test's policies; returns when they are gone from the kernels."""
        manifests = [
            {"apiVersion": m["apiVersion"], "kind": m["kind"], "metadata": m["metadata"]} for m in self.applied
        ]
        self.applied.clear()
        policies = [each for each in manifests if each["kind"] != "Tier"]
        for group in (policies, [each for each in manifests if each["kind"] == "Tier"]):
            if group:
                text = json.dumps({"apiVersion": "v1", "kind": "List", "items": group})
                await self.home.kubectl("delete", "--ignore-not-found", "-f", "-", text=text)
        if policies:
            await self.home.wait("delete", *{status_of(each) for each in policies}, seconds=20)

    def ingress(self, *rules: Json, name: str = "web") -> Json:
        """A Kubernetes NetworkPolicy of web."""
        spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": list(rules)}
        metadata = {"name": name, "namespace": self.home.namespace}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    def calico(self, *rules: Json, name: str = "web") -> Json:
        """A Calico NetworkPolicy of web."""
        spec = {"selector": "app == 'web'", "types": ["Ingress"], "ingress": list(rules)}
        metadata = {"name": name, "namespace": self.home.namespace}
        return {"apiVersion": CALICO, "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    # --- traffic ------------------------------------------------------------------------------------------------

    async def who(self, port: int = 80, protocol: str = "tcp") -> set[str]:
        """The clients that web answers, over both families; it is an error if the families differ."""
        targets = [target(address, port, protocol) for address in addresses(self.web)]
        return await self.who_of(targets)

    async def who_of(self, targets: Sequence[str]) -> set[str]:
        said = await asyncio.gather(*(self.reach(client, targets) for client in sorted(EVERYBODY)))
        found = {client: list(answered.values()) for client, answered in zip(sorted(EVERYBODY), said, strict=True)}
        assert all(len(set(answered)) == 1 for answered in found.values()), f"families differ: {found}"
        return {client for client, (answer, *_) in found.items() if answer == "web"}

    async def reach(self, client: str, targets: Sequence[str]) -> dict[str, str | None]:
        return answers(await self.lab.pod_exec(self.full(client), [*COMMAND, "reach", PATIENCE, *targets]))

    async def reach_from_node(self, node: str, *targets: str) -> dict[str, str | None]:
        return answers(await self.lab.node_exec(node, [*COMMAND, "reach", PATIENCE, *targets]))

    def full(self, client: str) -> str:
        metadata = self.pods[client]["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}"

    @contextlib.asynccontextmanager
    async def client(self, name: str, *arguments: str) -> AsyncIterator[dict[str, list[float]]]:
        """`client.py` in a client's pod meanwhile; what was yielded is filled at the end."""
        argv = ["/usr/bin/python3", "-I", "-S", str(CLIENT), *arguments]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.lab.pod_command(self.full(name), argv), stdin=pipe, stdout=pipe, stderr=sys.stderr
        )
        found: dict[str, list[float]] = {}
        try:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
            yield found
            out, _ = await process.communicate(b"")
            assert process.returncode == 0, f"client {arguments[:2]} in {name} failed"
            found.update(json.loads(out))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def status_of(policy: Json) -> str:
    """`policystatus/NAME`; of a tier nothing."""
    for user in records([policy]):
        if isinstance(user, Policy):
            source = convert(user).spec.source
            return f"policystatus/{compiled_name(source.kind, source.name, source.namespace)}"
    return ""


@pytest.fixture(scope="module")
def furnished(lab: Lab) -> Iterator[Stage]:
    """The stage, for a whole module."""
    name = f"stage-{secrets.token_hex(2)}"
    corners = Corner(lab, name), Corner(lab, f"{name}-other")
    stage = asyncio.run(_furnish(*corners))
    yield stage
    asyncio.run(lab.kubectl("delete", "namespace", *(each.namespace for each in corners), "--wait=false"))


@pytest.fixture
async def stage(furnished: Stage) -> AsyncIterator[Stage]:
    """The stage without a policy on it, before and after."""
    yield furnished
    await furnished.withdraw()


async def _furnish(home: Corner, other: Corner) -> Stage:
    for corner, team in ((home, "shop"), (other, "office")):
        await corner.lab.kubectl("create", "namespace", corner.namespace)
        await corner.lab.kubectl("label", "namespace", corner.namespace, f"team={team}")
        await corner.wait("create", "serviceaccount/default", seconds=20)
    ports = [
        {"name": "http", "containerPort": 80},
        {"name": "admin", "containerPort": 81},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    ]
    probe = {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 1, "failureThreshold": 2}
    main = {"name": "main", "image": "any/thing", "ports": ports, "readinessProbe": probe}
    client, nodes = {"role": "client"}, home.lab.plan.node_names
    await home.apply(
        pod("web", labels={"app": "web"}, nodeName=nodes[0], containers=[main]),
        pod("near", labels=client, nodeName=nodes[0]),
        pod("far", labels=client, nodeName=nodes[1]),
        pod("stranger", nodeName=nodes[1]),
    )
    await other.apply(
        pod("neighbour", labels=client, nodeName=nodes[0]), pod("visitor", labels=client, nodeName=nodes[1])
    )
    await home.ready("web", "near", "far", "stranger")
    await other.ready("neighbour", "visitor")
    pods = {each["metadata"]["name"]: each for each in (*await home.pods(), *await other.pods())}
    return Stage(home, other, pods["web"], pods, [])
