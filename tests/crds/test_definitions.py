"""The CRD files themselves: accepted, complete for kubectl, exact in names, and stable under apply."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CRDS, Cluster, definitions, fields, nodes, schema

FILES = sorted(CRDS.glob("*.yaml"))
BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
SCHEMA = CRDS.parent / "schema"

CALICO = {
    "BGPConfiguration": ("bgpconfigurations", "Cluster", "bgpconfig bgpconfigs"),
    "BGPFilter": ("bgpfilters", "Cluster", ""),
    "BGPPeer": ("bgppeers", "Cluster", ""),
    "BlockAffinity": ("blockaffinities", "Cluster", "affinity affinities"),
    "CalicoNodeStatus": ("caliconodestatuses", "Cluster", ""),
    "ClusterInformation": ("clusterinformations", "Cluster", "clusterinfo clusterinfos"),
    "FelixConfiguration": ("felixconfigurations", "Cluster", "felixconfig felixconfigs"),
    "GlobalNetworkPolicy": ("globalnetworkpolicies", "Cluster", "gnp cgnp"),
    "GlobalNetworkSet": ("globalnetworksets", "Cluster", "gns"),
    "HostEndpoint": ("hostendpoints", "Cluster", "hep heps"),
    "IPAMBlock": ("ipamblocks", "Cluster", ""),
    "IPAMConfiguration": ("ipamconfigurations", "Cluster", "ipamconfig ipamconfigs"),
    "IPAMHandle": ("ipamhandles", "Cluster", ""),
    "IPPool": ("ippools", "Cluster", "ipp"),
    "IPReservation": ("ipreservations", "Cluster", ""),
    "KubeControllersConfiguration": ("kubecontrollersconfigurations", "Cluster", "kcc kccs"),
    "NetworkPolicy": ("networkpolicies", "Namespaced", "cnp caliconetworkpolicy"),
    "NetworkSet": ("networksets", "Namespaced", "netset netsets"),
    "StagedGlobalNetworkPolicy": ("stagedglobalnetworkpolicies", "Cluster", "sgnp"),
    "StagedKubernetesNetworkPolicy": ("stagedkubernetesnetworkpolicies", "Namespaced", "sknp"),
    "StagedNetworkPolicy": ("stagednetworkpolicies", "Namespaced", "scnp snp"),
    "Tier": ("tiers", "Cluster", ""),
}
"""Calico's kinds as calicoctl and people's fingers know them: plural, scope, short names."""

TIERED = {"GlobalNetworkPolicy", "NetworkPolicy", "StagedGlobalNetworkPolicy", "StagedNetworkPolicy"}
STATUS = {"CalicoNodeStatus", "IPPool", "KubeControllersConfiguration", "Tier"} | TIERED
STATUS |= {"StagedKubernetesNetworkPolicy"}
"""Kinds with a /status; policies have it here alone."""
INTERNAL = {"NodeState", "NodePeer", "CompiledTier", "CompiledPolicy", "CompiledNetworkSet", "PolicyStatus"}


def test_there_is_one_file_for_each_kind() -> None:
    assert BY_KIND.keys() == CALICO.keys() | INTERNAL | {"ClusterNetworkPolicy"}
    for path, crd in zip(FILES, definitions(), strict=True):
        assert path.name == f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml"
        assert path.stat().st_size < 200_000


@pytest.mark.parametrize("kind", sorted(CALICO))
def test_names_are_exactly_calicos(kind: str) -> None:
    spec = BY_KIND[kind]["spec"]
    plural, scope, short = CALICO[kind]
    assert spec["names"] == {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "categories": ["calico"],
    } | ({"shortNames": short.split()} if short else {})
    assert (spec["group"], spec["scope"]) == ("projectcalico.org", scope)
    (version,) = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v3", True, True)
    assert version.get("subresources", {}) == ({"status": {}} if kind in STATUS else {})
    assert version.get("selectableFields", []) == ([{"jsonPath": ".spec.tier"}] if kind in TIERED else [])


def test_the_files_are_what_their_sources_yield(tmp_path: Path) -> None:
    command = [sys.executable, str(SCHEMA / "generate.py"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made.keys() == {path.name for path in SCHEMA.glob("*.yaml")}
    for name, text in made.items():
        assert (CRDS / name).read_text() == text, f"crds/{name} is not what schema/{name} yields: make crds"
    for path in FILES:
        assert path.read_text().startswith("# Made by") == (path.name in made)


@pytest.mark.parametrize("kind", sorted(BY_KIND.keys() - INTERNAL))
def test_every_list_says_how_it_is_merged(kind: str) -> None:
    lists = [(path, node) for path, node in nodes(schema(BY_KIND[kind])) if node.get("type") == "array"]
    assert [path for path, node in lists if "x-kubernetes-list-type" not in node] == []


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
    found = json.loads(applied.run("get", "crd", "-o", "json"))["items"]
    assert {each["metadata"]["name"] for each in found} == {crd["metadata"]["name"] for crd in definitions()}
    for crd in found:
        conditions = {each["type"]: each["status"] for each in crd["status"]["conditions"]}
        assert conditions.pop("Established") == "True"
        assert conditions.pop("NamesAccepted") == "True", "a short name is taken"
        approved = {"KubernetesAPIApprovalPolicyConformant": "True"} if crd["spec"]["group"].endswith(".k8s.io") else {}
        assert conditions == approved, "structural schema or API approval violated"


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


def test_short_names_and_categories(applied: Cluster) -> None:
    names = [crd["spec"]["names"] for crd in definitions()]
    applied.run("get", ",".join(short for each in names for short in each.get("shortNames", ())))
    applied.run("get", ",".join({category for each in names for category in each.get("categories", ())}))


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("ippool.spec.blockSize", "Prefix length of the blocks"),
        ("felixconfiguration.spec.bpfOverlayHostSourceIP", "Source address of the host's own packets"),
        ("gnp.spec.ingress.source.notNets", "Addresses that this side must not have"),
        ("snp.spec.stagedAction", "ENUM:\n    Set\n    Delete\n    Learn\n    Ignore"),
        ("bgpfilter.spec.importV6.operations.prependASPath.prefix", "The AS numbers, in order"),
        ("caliconodestatus.status.bgp.peersV4.state", "State of the session"),
        ("clusternetworkpolicies.spec.egress.to.networks", "Addresses as CIDRs"),
    ],
)
def test_kubectl_explains(applied: Cluster, field: str, says: str) -> None:
    assert says in applied.run("explain", field)
