"""Objects that use every field: accepted, shown, and never different after they are applied again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Cluster, Json, collection, definitions, examples, fields, schema

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
EXAMPLES = examples()

INTERNAL: dict[str, Json] = {
    "NodeState": {"settings": {"vxlanPort": 4790}, "pools": [{"cidr": "10.1.0.0/16"}], "after": {"compiledtiers": 7}},
    "NodePeer": {"blocks": ["10.1.0.0/26"], "endpoints": [{"name": "a/b", "uid": "c"}]},
    "CompiledTier": {"order": 1.5},
    "CompiledPolicy": {"source": {"kind": "kns", "name": "a"}, "labels": {"pcns.a": "b"}},
    "CompiledNetworkSet": {"nets": ["10.0.0.0/8"]},
    "PolicyStatus": {"source": {"kind": "gnp", "name": "a"}},
}
"""Specs of the kinds that the operator alone writes."""

MISPLACED = (".spec.egress[].http", ".spec.ingress[].destination.services", ".spec.egress[].source.services")
"""Fields of a policy that are known only to be refused: an unknown one would be dropped instead."""


def used(value: Any, path: str = "") -> Iterator[str]:
    """Paths of the fields of a value, as `fields` writes them; keys of a map are taken for fields too."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield f"{path}.{name}"
            yield from used(child, f"{path}.{name}")
    elif isinstance(value, list):
        for child in value:
            yield from used(child, f"{path}[]")


@pytest.mark.parametrize("kind", sorted(BY_KIND.keys() - INTERNAL.keys()))
def test_the_examples_use_every_field(kind: str) -> None:
    known = {path for path, _ in fields(schema(BY_KIND[kind])) if "{}" not in path and not path.startswith(MISPLACED)}
    assert known - {path for each in EXAMPLES if each["kind"] == kind for path in used(each)} == set()


def internal(kind: str) -> Json:
    crd = BY_KIND[kind]["spec"]
    version = f"{crd['group']}/{crd['versions'][0]['name']}"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "sample"}, "spec": INTERNAL[kind]}


def test_applied_twice_nothing_changes(applied: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "examples.yaml"
    file.write_text(yaml.safe_dump_all([*EXAMPLES, *map(internal, INTERNAL)]))

    def versions() -> dict[str, str]:
        items = json.loads(applied.run("get", "-f", str(file), "-o", "json"))["items"]
        return {each["kind"] + "/" + each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in items}

    applied.run("apply", "--server-side", "-f", str(file))
    try:
        before = versions()
        assert len(before) == len(EXAMPLES) + len(INTERNAL)
        applied.run("apply", "--server-side", "-f", str(file))
        assert versions() == before
        assert applied.run("diff", "--server-side", "-f", str(file)) == ""
        shown = applied.run("get", "-f", str(file))
        for kind, crd in BY_KIND.items():
            columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
            head = ["NAME", *(each["name"].upper() for each in columns if not each.get("priority"))]
            assert head in [line.split() for line in shown.splitlines()], kind
    finally:
        applied.run("delete", "-f", str(file))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_what_is_written_is_kept(applied: Cluster, example: Json) -> None:
    """No field is unknown or changed, in status neither, which is written apart from spec."""
    path = collection(BY_KIND[example["kind"]])
    code, created = applied.request("POST", f"{path}?fieldValidation=Strict", example)
    assert code == 201, created["message"]
    try:
        assert created["spec"] == created["spec"] | example["spec"]
        assert "status" not in created
        if status := example.get("status"):
            name = example["metadata"]["name"]
            body = created | {"status": status, "spec": {}}
            code, written = applied.request("PUT", f"{path}/{name}/status?fieldValidation=Strict", body)
            assert code == 200, written["message"]
            assert written["status"] == status
            assert written["spec"] == created["spec"]
            assert written["metadata"]["generation"] == 1
    finally:
        applied.request("DELETE", f"{path}/{example['metadata']['name']}")


def test_policies_are_found_by_their_tier(applied: Cluster) -> None:
    for kind in ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy"):
        path = collection(BY_KIND[kind])
        names = {"by-default": {}, "in-security": {"tier": "security"}}
        for name, spec in names.items():
            body = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}
            assert applied.request("POST", path, body)[0] == 201
        for tier, expected in (("default", ["by-default"]), ("security", ["in-security"]), ("other", [])):
            found = applied.request("GET", f"{path}?fieldSelector=spec.tier={tier}")[1]["items"]
            assert [each["metadata"]["name"] for each in found] == expected
        for name in names:
            assert applied.request("DELETE", f"{path}/{name}")[0] == 200
