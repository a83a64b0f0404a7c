"""Two operators, one leader; and users' objects as their users wrote them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tortie.api.kubernetes import Pod
from tortie.kube.client import Client
from tortie.kube.resources import POD
from tortie.lab import install
from tortie.lab.lab import Lab

from .cluster import Corner, Json, addresses, eventually, pod, target

pytestmark = pytest.mark.timeout(240)

ROOT = Path(__file__).parents[2]
EVENTS = 10_000


@asynccontextmanager
async def second_operator(lab: Lab) -> AsyncIterator[None]:
    command = install.operator_command(lab.control.directory / "kubeconfig" / "operator")
    await lab.control.start("operator-2", [*command, "--metrics-port", "9095"])
    try:
        await eventually(lambda: serves(lab, 9095))
        yield
    finally:
        await lab.control.stop("operator-2", 3)
        await lab.wait_component("operator")
        await eventually(lambda: leads(lab, 9094))


async def serves(lab: Lab, port: int) -> bool:
    try:
        return (await lab.control.http(port, "/readyz"))[0] == 200
    except ConnectionError:
        return False


async def metric(lab: Lab, port: int, name: str) -> float:
    """Sum over all its labels; 0 while nobody answers."""
    try:
        _, text = await lab.control.http(port, "/metrics")
    except ConnectionError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))


async def leads(lab: Lab, port: int) -> bool:
    return await metric(lab, port, "tortie_operator_leader") == 1


async def test_of_two_operators_one_writes_and_the_other_takes_over(corner: Corner) -> None:
    lab = corner.lab
    async with second_operator(lab):
        assert await leads(lab, 9094)
        assert not await leads(lab, 9095)
        await corner.apply(pod("one"))
        await corner.ready("one")
        assert await metric(lab, 9095, "tortie_operator_writes_total") == 0

        began = time.monotonic()
        await lab.stop("operator")  # it hands over
        await eventually(lambda: leads(lab, 9095))
        assert time.monotonic() - began < 3
        await corner.apply(pod("two"))
        await corner.ready("two")

        await lab.start("operator")
        await lab.wait_component("operator")
        assert not await leads(lab, 9094)
        began = time.monotonic()
        await lab.control.stop("operator-2", 0)  # it is killed
        await corner.apply(pod("three"))
        await corner.ready("three")
        assert time.monotonic() - began < 20
        assert await leads(lab, 9094)
        await lab.control.start_again("operator-2")
    found = [a for name in ("one", "two", "three") for a in addresses(await corner.get(f"pod/{name}"))]
    assert len(set(found)) == 6
    assert set((await corner.reach("one", *map(target, found))).values()) == {"one", "two", "three"}
    epochs = await lab.kubectl("get", "nodepeers", "-o", "jsonpath={.items[*].spec.epoch}")
    assert len(epochs.split()) == 3


async def test_an_operator_killed_again_and_again_leaves_everything_served(corner: Corner) -> None:
    """kill -9 at whatever it is doing, while pods come and go."""
    lab = corner.lab
    names = [f"p{number}" for number in range(12)]
    for batch in batches(names, 3):
        await corner.apply(*(pod(name) for name in batch))
        await asyncio.sleep(0.07)
        await lab.stop("operator", grace=0)
        await lab.start("operator")
    await corner.ready(*names, seconds=90)
    everyone = [address for each in await corner.pods() for address in addresses(each)]
    assert len(everyone) == len(set(everyone)) == 24
    await corner.kubectl("delete", "pod", "--all", "--timeout=40s")
    blocks = json.loads(await lab.kubectl("get", "ipamblocks", "-o", "json"))["items"]
    affinities = json.loads(await lab.kubectl("get", "blockaffinities", "-o", "json"))["items"]
    assert {block["spec"]["cidr"] for block in blocks} == {each["spec"]["cidr"] for each in affinities}
    assert {each["spec"]["state"] for each in affinities} == {"confirmed"}


def batches(names: list[str], size: int) -> Iterator[list[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))


def written_by_us(obj: Json) -> list[str]:
    """Fields outside of status that a part of ours manages, and annotations or finalizers that look like it."""
    metadata = obj["metadata"]
    found = [
        f"{entry['manager']} manages {entry.get('subresource') or 'the object'}"
        for entry in metadata.get("managedFields", ())
        if re.match("tortie-(operator|agent)", entry["manager"]) and entry.get("subresource") != "status"
    ]
    annotations = [key for key in metadata.get("annotations", {}) if re.search("tortie|kopf|zalando", key)]
    finalizers = [name for name in metadata.get("finalizers", ()) if "foreground" not in name]
    return found + annotations + finalizers


async def test_users_objects_stay_as_users_wrote_them_through_ten_thousand_events(corner: Corner) -> None:
    lab = corner.lab
    await corner.apply(*(pod(f"p{number}") for number in range(10)))
    await corner.ready(*(f"p{number}" for number in range(10)))
    objects: list[Json] = [
        {"kind": "IPPool", "metadata": {"name": "mine"}, "spec": {"cidr": "10.9.0.0/16", "disabled": True}},
        {"kind": "FelixConfiguration", "metadata": {"name": "default"}, "spec": {"vxlanMTU": 1400}},
        {"kind": "IPReservation", "metadata": {"name": "mine"}, "spec": {"reservedCIDRs": ["10.9.9.0/24"]}},
    ]
    manifest = yaml.safe_dump_all([{"apiVersion": "projectcalico.org/v3", **obj} for obj in objects])
    await lab.kubectl("apply", "--server-side", "-f", "-", text=manifest)
    async with await Client.connect(lab.kubeconfig, "churn") as client:
        numbers = iter(range(EVENTS))

        async def churn() -> None:
            for number in numbers:
                body: dict[str, Any] = {"metadata": {"labels": {"round": str(number)}}}
                await client.patch(POD, f"p{number % 10}", body, namespace=corner.namespace, type=Pod)

        await asyncio.gather(*(churn() for _ in range(20)))
    try:
        kinds = "pods,nodes,namespaces,serviceaccounts,services,ippools,felixconfigurations,ipreservations"
        listed = json.loads(await lab.kubectl("get", kinds, "-A", "-o", "json", "--show-managed-fields"))["items"]
        assert len(listed) > 20
        made_by_us = ("default-ipv4-ippool", "default-ipv6-ippool")
        told = {obj["metadata"]["name"]: written_by_us(obj) for obj in listed}
        assert {name: said for name, said in told.items() if said and name not in made_by_us} == {}
        await lab.kubectl("diff", "--server-side", "-f", "-", text=manifest)
        peers = json.loads(await lab.kubectl("get", "nodepeers", "-o", "json"))["items"]
        rounds = {s["labels"].get("round") for peer in peers for s in peer["spec"]["labelSets"]} - {None}
        assert len(rounds) == 10
    finally:
        await lab.kubectl("delete", "-f", "-", text=manifest)


EXAMPLES = [
    path
    for path in sorted((ROOT / "docs" / "examples").rglob("*.yaml"))
    if path.name != "cluster.yaml" and not path.name.endswith(".test.yaml")
]
"""Manifests for users; a policy test is none, and `cluster.yaml` is what policy tests are about."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
async def test_an_example_applied_twice_gives_no_diff(corner: Corner, example: Path) -> None:
    lab = corner.lab
    for namespace in {doc["metadata"].get("namespace") for doc in yaml.safe_load_all(example.read_text())} - {None}:
        await lab.kubectl(
            "apply", "--server-side", "-f", "-",
            text=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        )  # fmt: skip
    await lab.kubectl("apply", "--server-side", "-f", str(example))
    try:
        await lab.kubectl("apply", "--server-side", "-f", str(example))
        await lab.kubectl("diff", "--server-side", "-f", str(example))  # fails if it would change anything
    finally:
        await lab.kubectl("delete", "-f", str(example), "--wait=false")
