"""The CRD files themselves: accepted, complete for kubectl, and stable under apply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import CRDS, Cluster, Json, collection, definitions, fields

FILES = sorted(CRDS.glob("*.yaml"))
BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}

CALICO = {
    "IPPool",
    "IPReservation",
    "IPAMConfiguration",
    "IPAMBlock",
    "IPAMHandle",
    "BlockAffinity",
    "FelixConfiguration",
    "ClusterInformation",
}
INTERNAL = {"NodeState", "NodePeer", "CompiledTier", "CompiledPolicy", "CompiledNetworkSet", "PolicyStatus"}

SAMPLES: dict[str, Json] = {
    "IPPool": {"cidr": "10.1.0.0/16"},
    "IPReservation": {"reservedCIDRs": ["10.1.0.0/30"]},
    "IPAMConfiguration": {},
    "IPAMBlock": {"cidr": "10.1.0.0/31", "allocations": [0, None], "unallocated": [1], "attributes": [{}]}
    | {"strictAffinity": False},
    "IPAMHandle": {"handleID": "h", "block": {"10.1.0.0/31": 1}},
    "BlockAffinity": {"cidr": "10.1.0.0/31", "node": "a", "state": "confirmed"},
    "FelixConfiguration": {"vxlanPort": 4790},
    "ClusterInformation": {"clusterType": "k8s"},
    "NodeState": {"settings": {"vxlanPort": 4790}, "pools": [{"cidr": "10.1.0.0/16"}], "after": {"compiledtiers": 7}},
    "NodePeer": {"blocks": ["10.1.0.0/26"], "endpoints": [{"name": "a/b", "uid": "c"}]},
    "CompiledTier": {"order": 1.5},
    "CompiledPolicy": {"source": {"kind": "kns", "name": "a"}, "labels": {"pcns.a": "b"}},
    "CompiledNetworkSet": {"nets": ["10.0.0.0/8"]},
    "PolicyStatus": {"source": {"kind": "gnp", "name": "a"}, "nodes": 2, "enforced": 1},
}


def schema(crd: Json) -> Json:
    found: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def sample(kind: str) -> Json:
    crd = BY_KIND[kind]["spec"]
    version = f"{crd['group']}/{crd['versions'][0]['name']}"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "default"}, "spec": SAMPLES[kind]}


def test_there_is_one_file_for_each_kind() -> None:
    assert BY_KIND.keys() == CALICO | INTERNAL == SAMPLES.keys()
    for path, crd in zip(FILES, definitions(), strict=True):
        names = crd["spec"]["names"]
        assert path.name == f"{crd['spec']['group']}_{names['plural']}.yaml"
        assert names["categories"] == ["calico" if names["kind"] in CALICO else "tortie"]
        assert crd["spec"]["group"] == ("projectcalico.org" if names["kind"] in CALICO else "tortie.io")
        assert path.stat().st_size < 200_000


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_kubectl_can_explain_every_field(kind: str) -> None:
    root = schema(BY_KIND[kind])
    assert root["description"]
    bare = [path for path, node in fields(root) if not node.get("description", "").endswith(".")]
    assert bare == []
    columns = BY_KIND[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    assert columns[-1]["name"] == "Age"
    assert all(column.get("description") for column in columns[:-1])


def test_felix_configuration_has_all_of_calicos_fields() -> None:
    assert len(schema(BY_KIND["FelixConfiguration"])["properties"]["spec"]["properties"]) == 188


def test_all_are_established_and_structural(applied: Cluster) -> None:
    for crd in definitions():
        found = json.loads(applied.run("get", "crd", crd["metadata"]["name"], "-o", "json"))
        conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
        assert conditions.pop("Established") == "True"
        assert conditions.pop("NamesAccepted") == "True", "a short name is taken"
        assert conditions == {}, "structural schema or API approval violated"


def test_applied_again_nothing_changes(applied: Cluster) -> None:
    def versions() -> dict[str, str]:
        items = json.loads(applied.run("get", "crd", "-o", "json"))["items"]
        return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in items}

    before = versions()
    applied.run("apply", "--server-side", "-f", str(CRDS))
    assert versions() == before
    assert applied.run("diff", "--server-side", "-f", str(CRDS)) == ""


def test_client_side_apply_works_too(applied: Cluster) -> None:
    """It keeps the whole object in an annotation, which may have 262,144 bytes."""
    applied.run("apply", "-f", str(CRDS))
    assert "configured" not in applied.run("apply", "-f", str(CRDS))


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_an_object_applied_twice_is_the_same(applied: Cluster, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "object.yaml"
    file.write_text(yaml.safe_dump(sample(kind)))
    read = ("get", "-f", str(file), "-o", "jsonpath={.metadata.resourceVersion}")
    applied.run("apply", "--server-side", "-f", str(file))
    version = applied.run(*read)
    applied.run("apply", "--server-side", "-f", str(file))
    assert applied.run(*read) == version
    assert applied.run("diff", "--server-side", "-f", str(file)) == ""
    table = applied.run("get", "-f", str(file)).splitlines()
    columns = BY_KIND[kind]["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [each["name"].upper() for each in columns if not each.get("priority")]
    assert table[0].split() == ["NAME", *shown]
    applied.run("delete", "-f", str(file))


def test_short_names_and_categories(applied: Cluster) -> None:
    for crd in definitions():
        names = crd["spec"]["names"]
        for name in (*names.get("shortNames", ()), *names["categories"]):
            applied.run("get", name)


def test_status_is_written_apart_from_spec(applied: Cluster) -> None:
    condition = {"type": "Allocatable", "status": "True", "reason": "OK", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"conditions": [condition]}
    for kind, body in {"IPPool": status, "NodeState": {"generation": 3}}.items():
        path = collection(BY_KIND[kind])
        code, created = applied.request("POST", path, sample(kind) | {"status": body})
        assert (code, created.get("status")) == (201, None)
        merge = "merge-patch+json"
        code, written = applied.request("PATCH", f"{path}/default/status", {"status": body, "spec": {}}, merge)
        assert (code, written["status"]) == (200, body)
        assert written["metadata"]["generation"] == 1
        assert applied.request("DELETE", f"{path}/default")[0] == 200


def test_kubectl_explains(applied: Cluster) -> None:
    assert "Prefix length of the blocks" in applied.run("explain", "ippool.spec.blockSize")
    assert "Source address of the host's own packets" in applied.run(
        "explain", "felixconfiguration.spec.bpfOverlayHostSourceIP"
    )
