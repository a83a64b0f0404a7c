"""What the API server fills in: exactly what Calico's CRDs do, and nothing on the internal kinds."""

from __future__ import annotations

import pytest

from ..controlplane import Cluster, Json
from .conftest import collection, definitions, nodes, schema

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
ONLY = ("IPAMConfiguration", "ClusterInformation")
"""Kinds whose only object is named `default`."""

TIERED = {".spec.tier": "default"}
CONTROLLERS: Json = {
    "healthChecks": "Enabled",
    "controllers.loadBalancer.assignIPs": "AllServices",
    "controllers.migration.policyNameMigrator": "Enabled",
}
CALICO: dict[str, Json] = {
    "BGPConfiguration": {
        ".spec.logSeverityScreen": "Info",
        ".spec.serviceLoadBalancerAggregation": "Enabled",
        ".spec.nodeMeshPassword.secretKeyRef.name": "",
    },
    "BGPPeer": {".spec.password.secretKeyRef.name": ""},
    "BlockAffinity": {".spec.deleted": False},
    "FelixConfiguration": {".spec.nftablesMode": "Auto", ".spec.nftablesFlowTableOffload": "Disabled"},
    "GlobalNetworkPolicy": TIERED,
    "IPAMBlock": {".spec.sequenceNumber": 0},
    "IPAMConfiguration": {
        ".spec.strictAffinity": False,
        ".spec.autoAllocateBlocks": True,
        ".spec.maxBlocksPerHost": 0,
    },
    "IPPool": {".spec.nodeSelector": "all()", ".spec.assignmentMode": "Automatic"},
    "KubeControllersConfiguration": {f".spec.{path}": value for path, value in CONTROLLERS.items()}
    | {f".status.runningConfig.{path}": value for path, value in CONTROLLERS.items()},
    "NetworkPolicy": TIERED,
    "StagedGlobalNetworkPolicy": TIERED | {".spec.stagedAction": "Set"},
    "StagedKubernetesNetworkPolicy": {".spec.stagedAction": "Set"},
    "StagedNetworkPolicy": TIERED | {".spec.stagedAction": "Set"},
    "Tier": {".spec.defaultAction": "Deny"},
}
"""All defaults of Calico's CRDs."""


@pytest.mark.parametrize("kind", sorted(BY_KIND))
def test_the_defaults_are_calicos(kind: str) -> None:
    written = {path: node["default"] for path, node in nodes(schema(BY_KIND[kind])) if "default" in node}
    assert written == CALICO.get(kind, {})


BLOCK: Json = {"cidr": "10.1.0.0/31", "allocations": [None], "unallocated": [], "attributes": []}
BLOCK |= {"strictAffinity": True}
AFFINITY: Json = {"cidr": "10.1.0.0/26", "node": "a", "state": ""}
SECRET: Json = {"secretKeyRef": {"key": "password"}}
NAMED: Json = {"secretKeyRef": {"key": "password", "name": ""}}


@pytest.mark.parametrize(
    ("kind", "spec", "filled"),
    [
        ("IPPool", {"cidr": "10.1.0.0/16"}, {"nodeSelector": "all()", "assignmentMode": "Automatic"}),
        ("IPReservation", {}, {}),
        ("IPAMConfiguration", {}, {"strictAffinity": False, "autoAllocateBlocks": True, "maxBlocksPerHost": 0}),
        ("FelixConfiguration", {}, {"nftablesMode": "Auto", "nftablesFlowTableOffload": "Disabled"}),
        ("BlockAffinity", AFFINITY, {"deleted": False}),
        ("IPAMBlock", BLOCK, {"sequenceNumber": 0}),
        ("IPAMHandle", {"handleID": "h", "block": {}}, {}),
        ("ClusterInformation", {}, {}),
        ("Tier", {}, {"defaultAction": "Deny"}),
        ("NetworkPolicy", {}, {"tier": "default"}),
        ("NetworkPolicy", {"tier": ""}, {"tier": ""}),
        ("GlobalNetworkPolicy", {}, {"tier": "default"}),
        ("StagedNetworkPolicy", {}, {"tier": "default", "stagedAction": "Set"}),
        ("StagedGlobalNetworkPolicy", {}, {"tier": "default", "stagedAction": "Set"}),
        ("StagedKubernetesNetworkPolicy", {}, {"stagedAction": "Set"}),
        ("NetworkSet", {}, {}),
        ("GlobalNetworkSet", {}, {}),
        ("HostEndpoint", {"node": "a", "interfaceName": "*"}, {}),
        ("BGPPeer", {"password": SECRET}, {"password": NAMED}),
        ("BGPFilter", {}, {}),
        (
            "BGPConfiguration",
            {"nodeMeshPassword": SECRET},
            {"nodeMeshPassword": NAMED, "logSeverityScreen": "Info", "serviceLoadBalancerAggregation": "Enabled"},
        ),
        ("CalicoNodeStatus", {}, {}),
        ("KubeControllersConfiguration", {"controllers": {}}, {"healthChecks": "Enabled"}),
        (
            "KubeControllersConfiguration",
            {"controllers": {"loadBalancer": {}, "migration": {}, "node": {}}},
            {
                "healthChecks": "Enabled",
                "controllers": {
                    "loadBalancer": {"assignIPs": "AllServices"},
                    "migration": {"policyNameMigrator": "Enabled"},
                    "node": {},
                },
            },
        ),
        ("NodePeer", {}, {}),
        ("NodeState", {}, {}),
        ("CompiledTier", {}, {}),
        ("CompiledNetworkSet", {}, {}),
        ("CompiledPolicy", {"source": {"kind": "kns"}}, {}),
        ("PolicyStatus", {"source": {"kind": "knp"}}, {}),
    ],
)
def test_what_is_absent_is_filled_in(applied: Cluster, kind: str, spec: Json, filled: Json) -> None:
    crd = BY_KIND[kind]["spec"]
    version = f"{crd['group']}/{crd['versions'][0]['name']}"
    metadata = {"name": "default" if kind in ONLY else "sample"}
    body = {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
    code, answer = applied.request("POST", f"{collection(BY_KIND[kind])}?dryRun=All", body)
    assert code == 201, answer["message"]
    assert answer["spec"] == spec | filled
