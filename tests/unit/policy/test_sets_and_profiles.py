"""Network sets, services, profiles, effective labels, and clusters from documents."""

from __future__ import annotations

import msgspec
import pytest
import yaml

from tortie.api.compiled import Backends
from tortie.api.kubernetes import Namespace, ServiceAccount
from tortie.api.meta import Metadata
from tortie.policy import labels
from tortie.policy.build import build, records
from tortie.policy.convert import (
    DEFAULT_ALLOW,
    network_set,
    profile_name,
    profile_of_namespace,
    profile_of_service_account,
    service_set,
)

from .manifests import findings


def test_a_namespace_is_a_profile_that_allows_all_and_lends_its_labels() -> None:
    metadata = Metadata(name="shop", uid="u", labels={"b": "1", "a": "2", "projectcalico.org/name": "liar"})
    spec = profile_of_namespace(Namespace(metadata=metadata))
    assert profile_name(spec.source) == "kns.shop"
    assert list(spec.labels.items()) == [("pcns.a", "2"), ("pcns.b", "1"), ("pcns.projectcalico.org/name", "shop")]
    assert [rule.action for rule in (*spec.ingress, *spec.egress)] == ["Allow", "Allow"]
    assert spec.ingress[0].id != spec.egress[0].id
    assert (spec.tier, spec.selector, spec.types) == ("", "", ())


def test_a_service_account_is_a_profile_of_labels_alone() -> None:
    account = ServiceAccount(metadata=Metadata(name="robot", namespace="shop", labels={"role": "x"}))
    spec = profile_of_service_account(account)
    assert profile_name(spec.source) == "ksa.shop.robot"
    assert spec.labels == {"pcsa.role": "x", "pcsa.projectcalico.org/name": "robot"}
    assert spec.ingress == spec.egress == ()


def test_the_profile_that_is_always_there() -> None:
    assert profile_name(DEFAULT_ALLOW.source) == "projectcalico-default-allow"


@pytest.mark.parametrize(
    ("account", "label"), [("robot", "robot"), ("a" * 63, "a" * 63), ("a" * 64, None), ("-a", None)]
)
def test_effective_labels_of_a_pod(account: str, label: str | None) -> None:
    own = {"app": "x", "pcns.env": "forged", "pcsa.role": "forged", "projectcalico.org/namespace": "forged"}
    own["projectcalico.org/serviceaccount"] = "forged"
    found = labels.of_pod(own, "shop", account, {"pcns.env": "prod"})
    assert found["app"] == "x"
    assert found["pcns.env"] == "prod"
    assert "pcsa.role" not in found
    assert found["projectcalico.org/namespace"] == "shop"
    assert found["projectcalico.org/orchestrator"] == "k8s"
    assert found.get("projectcalico.org/serviceaccount") == label


def test_own_labels_of_sets_win_over_inherited_ones() -> None:
    assert labels.of_network_set({"a": "own"}, "shop", {"a": "lent", "pcns.b": "lent"}) == {
        "a": "own",
        "pcns.b": "lent",
        "projectcalico.org/namespace": "shop",
    }
    assert labels.of_network_set({"projectcalico.org/namespace": "forged"}, "", {}) == {}


def one(text: str):  # type: ignore[no-untyped-def]
    (record,) = records([yaml.safe_load(text)])
    return record


def test_nets_of_sets_are_masked_sorted_and_unique() -> None:
    spec, problems = network_set(
        one("""
        apiVersion: projectcalico.org/v3
        kind: NetworkSet
        metadata: {name: s, namespace: shop, labels: {b: '1', a: '2', projectcalico.org/namespace: x}}
        spec: {nets: [10.1.2.3/8, '2001:DB8::1', 10.0.0.0/8, 9.9.9.9, nonsense, 10.0.0.0/33]}
        """)
    )
    assert spec.nets == ("9.9.9.9/32", "10.0.0.0/8", "2001:db8::1/128")
    assert list(spec.labels) == ["a", "b"]
    assert (spec.source.kind, spec.source.namespace, spec.source.name) == ("ns", "shop", "s")
    assert [(problem.field, problem.value) for problem in problems] == [
        ("metadata.labels", "projectcalico.org/namespace=x"),
        ("spec.nets[4]", "nonsense"),
        ("spec.nets[5]", "10.0.0.0/33"),
    ]


def test_backends_are_grouped_by_what_they_serve() -> None:
    def slice_of(addresses: list[str], ports: list[dict[str, object]], kind: str = "IPv4"):  # type: ignore[no-untyped-def]
        head = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"}}
        endpoints = [{"addresses": [address]} for address in addresses]
        (record,) = records([head | {"addressType": kind, "endpoints": endpoints, "ports": ports}])
        return record

    tcp, udp = {"protocol": "TCP", "port": 8080}, {"protocol": "UDP", "port": 53}
    spec = service_set(
        "shop",
        "db",
        [
            slice_of(["10.0.0.9", "10.0.0.1"], [udp, tcp]),
            slice_of(["10.0.0.2"], [tcp]),
            slice_of(["10.0.0.2"], [udp]),
            slice_of(["10.0.0.3"], [{"protocol": "TCP"}]),
            slice_of(["fd00::1"], [tcp], "IPv6"),
            slice_of(["db.example"], [tcp], "FQDN"),
        ],
    )
    assert spec.source.kind == "svc"
    assert spec.backends == (
        Backends(nets=("10.0.0.3/32",)),
        Backends(ports=("6:8080",), nets=("fd00::1/128",)),
        Backends(ports=("6:8080", "17:53"), nets=("10.0.0.1/32", "10.0.0.2/32", "10.0.0.9/32")),
    )


def test_lists_are_unpacked_nulls_absent_and_foreign_kinds_left_out() -> None:
    pod = {"metadata": {"name": "a", "namespace": "x", "labels": None}, "spec": {"nodeName": None}, "status": None}
    documents = [
        {"apiVersion": "v1", "kind": "PodList", "items": [pod]},
        {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}]},
        {"apiVersion": "apps/v1", "kind": "Deployment"},
    ]
    (record,) = records(documents)
    cluster, _ = build([record])
    assert list(cluster.workloads) == ["x/a"]
    assert cluster.workloads["x/a"].profiles == ("kns.x", "ksa.x.default")
    assert set(cluster.profiles) == {"projectcalico-default-allow", "kns.x", "ksa.x.default"}


def test_a_document_of_the_wrong_shape_is_named() -> None:
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"hostNetwork": "yes"}}
    with pytest.raises(msgspec.ValidationError, match=r"Pod a: Expected `bool`, got `str` - at `\$.spec.hostNetwork`"):
        list(records([document]))


def test_findings_name_the_object() -> None:
    text = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {selector: '=', ingress: [{action: Allow, http: {}}]}
---
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h},
 spec: {node: n, expectedIPs: [nowhere], ports: [{name: a, protocol: TPC, port: 1}]}}
---
{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: f}, spec: {egress: [{action: Maybe}]}}
"""
    found = [(each.kind, each.key, each.problem.field, each.problem.value) for each in findings(text)]
    assert found == [
        ("Profile", "f", "spec.egress[0].action", "Maybe"),
        ("HostEndpoint", "h", "spec.expectedIPs", "nowhere"),
        ("HostEndpoint", "h", "spec.ports", "TPC"),
        ("NetworkPolicy", "x/p", "spec.selector", "="),
        ("NetworkPolicy", "x/p", "spec.ingress[0].http", "{}"),
    ]


def test_ended_pods_are_nobody_and_the_last_object_of_a_name_counts() -> None:
    ended = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x"}}
    ended |= {"status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.1"}]}}
    assert build(records([ended]))[0].endpoints == ()
    again = ended | {"status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}]}}
    (endpoint,) = build(records([ended, again]))[0].endpoints
    assert [str(address) for address in endpoint.addresses] == ["10.0.0.2"]
