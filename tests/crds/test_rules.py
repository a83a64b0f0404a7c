"""Every CEL rule of every CRD: one object that passes it and one that it refuses, naming field and value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import bgp_cases, cases, felix_cases, kind_cases, policy_cases
from .cases import V4, Case
from .conftest import Cluster, Json, collection, definitions, nodes, schema

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
CASES = [*cases.CASES, *felix_cases.CASES, *policy_cases.cases(), *kind_cases.cases(), *bgp_cases.cases()]

CALICO = {
    "BGPConfiguration": 3,
    "BGPFilter": 12,
    "BGPPeer": 8,
    "FelixConfiguration": 8,
    "GlobalNetworkPolicy": 51,
    "HostEndpoint": 2,
    "IPPool": 16,
    "NetworkPolicy": 46,
    "StagedGlobalNetworkPolicy": 51,
    "StagedNetworkPolicy": 46,
    "Tier": 6,
}
"""How many rules Calico's own CRDs have, 249 in all."""


SCHEMA_REFUSALS = [
    ("IPPool", {}, "spec.cidr: Required value"),
    ("IPPool", {"cidr": "10.1.0.0/33"}, 'spec.cidr: Invalid value: "10.1.0.0/33"'),
    ("IPPool", {"cidr": "10.1.0.0"}, 'spec.cidr: Invalid value: "10.1.0.0"'),
    ("IPPool", V4 | {"blockSize": 129}, "spec.blockSize: Invalid value: 129"),
    ("IPPool", V4 | {"vxlanMode": "always"}, 'spec.vxlanMode: Unsupported value: "always"'),
    ("IPPool", V4 | {"allowedUses": ["Pods"]}, 'spec.allowedUses[0]: Unsupported value: "Pods"'),
    ("IPPool", V4 | {"allowedUses": ["Tunnel", "Tunnel"]}, 'spec.allowedUses[1]: Duplicate value: "Tunnel"'),
    ("IPPool", V4 | {"natOutgoing": "yes"}, "spec.natOutgoing: Invalid value: "),
    ("IPPool", V4 | {"nodeSelector": "a" * 1025}, "spec.nodeSelector: Too long"),
    ("IPReservation", {"reservedCIDRs": ["10.0.0.0/8", "x"]}, 'spec.reservedCIDRs[1]: Invalid value: "x"'),
    ("IPAMConfiguration", {"ipCooldownSeconds": 1201}, "spec.ipCooldownSeconds: Invalid value: 1201"),
    ("IPAMConfiguration", {"maxBlocksPerHost": -1}, "spec.maxBlocksPerHost: Invalid value: -1"),
    ("BlockAffinity", {"cidr": "10.1.0.0/26", "node": "a", "state": "mine"}, 'spec.state: Unsupported value: "mine"'),
    (
        "IPAMBlock",
        {"cidr": "10.1.0.0/31", "affinity": "a", "allocations": [], "unallocated": [], "attributes": []}
        | {"strictAffinity": False},
        'spec.affinity: Invalid value: "a"',
    ),
    ("FelixConfiguration", {"vxlanPort": "http"}, "spec.vxlanPort: Invalid value: "),
    ("FelixConfiguration", {"routeRefreshInterval": "1 day"}, 'spec.routeRefreshInterval: Invalid value: "1 day"'),
    ("FelixConfiguration", {"logSeverityScreen": "loud"}, 'spec.logSeverityScreen: Invalid value: "loud"'),
    ("FelixConfiguration", {"logActionRateLimit": "10/week"}, 'spec.logActionRateLimit: Invalid value: "10/week"'),
    ("FelixConfiguration", {"iptablesMarkMask": 2**32}, "spec.iptablesMarkMask: Invalid value: 4294967296"),
    ("FelixConfiguration", {"kubeNodePortRanges": [1] * 8}, "spec.kubeNodePortRanges: Too many: 8"),
]

ACCEPTED_FELIX: Json = {
    "logSeverityScreen": "warning",
    "defaultEndpointToHostAction": "ACCEPT",
    "bpfLogLevel": "",
    "routeRefreshInterval": "1.5s",
    "netlinkTimeout": "1m30s",
    "natPortRange": "32768:65535",
    "bpfPSNATPorts": 20000,
    "kubeNodePortRanges": ["30000:32767", 40000],
    "featureDetectOverride": "SNATFullyRandom=true,MASQFullyRandom=false,RestoreSupportsLock=",
    "featureGates": "A=enabled,B=false",
    "logActionRateLimit": "10/second",
    "bpfConntrackTimeouts": {"tcpEstablished": "1h", "tcpFinsSeen": "Auto"},
    "bpfLogFilters": {"all": "tcp port 80"},
    "failsafeInboundHostPorts": [{"port": 22, "protocol": "tcp", "net": "10.0.0.0/8"}],
    "healthTimeoutOverrides": [{"name": "a", "timeout": "5s"}],
    "bpfAttachType": "Netkit",
    "bpfConntrackLogLevel": "Off",
}


def manifest(kind: str, name: str, spec: Json) -> Json:
    crd = BY_KIND[kind]["spec"]
    version = f"{crd['group']}/{crd['versions'][0]['name']}"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def rules(crd: Json) -> Iterator[tuple[str, str]]:
    """Place and message of each rule of CEL."""
    for where, node in nodes(schema(crd)):
        for rule in node.get("x-kubernetes-validations", ()):
            yield where.removeprefix("."), rule["message"]


def test_every_rule_has_a_case() -> None:
    written = [(kind, where, message) for kind, crd in BY_KIND.items() for where, message in rules(crd)]
    assert len(set(written)) == len(written)
    tried = {(case.kind, case.where, case.rule) for case in CASES}
    for kind, where, message in written:
        alike = [other for other in written if other[::2] == (kind, message)]
        assert (kind, where, message) in tried or ((kind, "", message) in tried and len(alike) == 1)
    assert {(kind, rule) for kind, _, rule in tried} == {(kind, rule) for kind, _, rule in written}


def test_there_are_at_least_as_many_rules_as_in_calicos_crds() -> None:
    assert sum(CALICO.values()) == 249
    for kind, count in CALICO.items():
        assert len(list(rules(BY_KIND[kind]))) >= count, kind


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.rule} @{case.where}")
def test_rule(applied: Cluster, case: Case) -> None:
    path = collection(BY_KIND[case.kind])
    if case.old is None:
        code, answer = applied.request("POST", f"{path}?dryRun=All", manifest(case.kind, case.good_name, case.good))
        assert code == 201, answer["message"]
        code, answer = applied.request("POST", f"{path}?dryRun=All", manifest(case.kind, case.bad_name, case.bad))
    else:
        assert applied.request("POST", path, manifest(case.kind, "default", case.old))[0] == 201
        try:
            part = "status" if case.where.startswith("status") else "spec"
            good, bad = (update(applied, f"{path}/default", part, value) for value in (case.good, case.bad))
        finally:
            applied.request("DELETE", f"{path}/default")
        assert good[0] == 200, good[1]["message"]
        code, answer = bad
    assert code == 422, answer
    causes = answer["details"]["causes"]
    assert not case.alone or len(causes) == 1, "refused for this rule alone"
    for text in case.says:
        assert text in answer["message"]


def update(cluster: Cluster, path: str, part: str, value: Json) -> tuple[int, Json]:
    current = cluster.request("GET", path)[1]
    written = path if part == "spec" else f"{path}/status"
    return cluster.request("PUT", f"{written}?dryRun=All", current | {part: value})


@pytest.mark.parametrize(("kind", "spec", "message"), SCHEMA_REFUSALS, ids=lambda value: str(value)[:40])
def test_schema_refuses_with_field_and_value(applied: Cluster, kind: str, spec: Json, message: str) -> None:
    path = collection(BY_KIND[kind])
    code, answer = applied.request("POST", f"{path}?dryRun=All", manifest(kind, "default", spec))
    assert code == 422
    assert message in answer["message"]


def test_an_unknown_field_is_named(applied: Cluster) -> None:
    path = collection(BY_KIND["IPPool"])
    body = manifest("IPPool", "default", V4 | {"blokSize": 26})
    code, answer = applied.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", body)
    assert code == 400
    assert 'unknown field "spec.blokSize"' in answer["message"]


def test_calicos_spellings_of_felix_values_are_accepted(applied: Cluster) -> None:
    path = collection(BY_KIND["FelixConfiguration"])
    code, answer = applied.request("POST", f"{path}?dryRun=All", manifest("FelixConfiguration", "x", ACCEPTED_FELIX))
    assert code == 201, answer["message"]
