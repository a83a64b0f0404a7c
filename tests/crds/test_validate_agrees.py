"""`tortie validate` and a real API server judge alike: every object that a case of these tests accepts or refuses, and
examples made wrong at random."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tortie.validation.documents import Document, documents
from tortie.validation.validate import Report, Validator

from .cases import Case
from .conftest import Cluster, Json, collection, definitions, examples, schema
from .mutations import Mutation, Steps, dotted, mutations, places, replaced
from .test_rules import ACCEPTED_FELIX, BY_KIND, CASES, SCHEMA_REFUSALS, manifest

VALIDATOR = Validator(definitions())
NETWORK_POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
ROOT = "<nil>"
"""How the API server names the whole object."""
ASIDES = (
    "some validation rules were not checked",
    "Checked value must be of type",
    "must validate at least one schema",
    "must validate all the schemas",
)
"""Causes that only add to others."""
NOT = re.compile(r'"([^"]+)" must not validate the schema')


def report(value: Json) -> Report:
    return VALIDATOR.reports([Document("a.yaml", 1, value)])[0]


def served(cluster: Cluster, value: Json) -> tuple[int, set[str], str]:
    """Code of the answer, the fields that a refusal names, and what it says. With kubectl's strict validation."""
    path = collection(BY_KIND[value["kind"]]) if value["apiVersion"] != "networking.k8s.io/v1" else NETWORK_POLICIES
    code, answer = cluster.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", value)
    causes = answer.get("details", {}).get("causes", [])
    named = {named_by(each) for each in causes if not any(aside in each["message"] for aside in ASIDES)}
    return code, named, answer.get("message", "")


def named_by(cause: Json) -> str:
    if match := NOT.search(cause["message"]):
        return match[1]
    return "" if cause["field"] == ROOT else cause["field"]


def agree(cluster: Cluster, value: Json) -> None:
    """Both accept, or both refuse, then for the same fields."""
    ours = VALIDATOR.admission(value).problems
    code, fields, said = served(cluster, value)
    assert (not ours) == (code == 201), (said, ours, value)
    if code == 422:
        assert {each.field for each in ours} == fields, (said, ours)
    elif code == 400:  # the request is not even decoded: unknown fields, metadata of a wrong type
        assert any(each.field.rpartition(".")[2] in said for each in ours), (said, ours)


CREATED = [case for case in CASES if case.old is None]
"""Only these can be judged: what an update may change depends on what is there."""


@pytest.mark.parametrize("case", CREATED, ids=lambda case: f"{case.kind}: {case.rule} @{case.where}")
def test_rules_of_cel(applied: Cluster, case: Case) -> None:
    good = report(manifest(case.kind, case.good_name, case.good))
    assert good.valid, good.errors
    agree(applied, manifest(case.kind, case.bad_name, case.bad))
    assert not report(manifest(case.kind, case.bad_name, case.bad)).valid


def test_what_an_update_may_not_change_is_valid_by_itself() -> None:
    updates = [case for case in CASES if "immutable" in case.rule]
    assert len(updates) == 3
    for case in updates:
        assert report(manifest(case.kind, "default", case.bad)).valid


@pytest.mark.parametrize("mutation", [each for each in mutations() if each.at[0] == "spec"], ids=str)
def test_constraints_of_schemas(applied: Cluster, mutation: Mutation) -> None:
    agree(applied, mutation.bad)
    assert dotted(mutation.names) in {each.field for each in report(mutation.bad).errors}


def test_status_is_not_judged_since_creation_drops_it(applied: Cluster) -> None:
    for mutation in mutations():
        if mutation.at[0] == "status":
            agree(applied, mutation.bad)
            assert {each.message for each in report(mutation.bad).errors} <= {"there is no such field"}


def test_what_else_is_accepted_or_refused(applied: Cluster) -> None:
    for kind, spec, _ in SCHEMA_REFUSALS:
        agree(applied, manifest(kind, "default", spec))
    agree(applied, manifest("FelixConfiguration", "x", ACCEPTED_FELIX))
    for example in examples():
        agree(applied, example)


EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "policies"


def test_the_examples_of_the_documentation(applied: Cluster) -> None:
    found = [each for file in sorted(EXAMPLES.glob("*.yaml")) for each in documents(file.read_text(), file.name)]
    values = [each.value for each in found if each.value["kind"] in BY_KIND]
    assert len(values) >= 40
    for value in values:
        metadata = {key: each for key, each in value["metadata"].items() if key != "namespace"}
        agree(applied, value | {"metadata": metadata})
        assert report(value).valid


# A list where a text of a certain format belongs passes in the API server, but not here.
JUNK: list[Any] = [None, "", "x", "10.0.0.1/8", 0, -1, 1.5, 70000, True, [], {}, [None], [1, 1], {"no": 1}]


def spoiled(seed: int, count: int) -> Iterator[Json]:
    """Examples with junk, or nothing at all, in one place."""
    dice = random.Random(seed)
    wholes = [{key: each for key, each in example.items() if key != "status"} for example in examples()]
    for _ in range(count):
        value = dice.choice(wholes)
        root = schema(BY_KIND[value["kind"]])["properties"]["spec"]
        at, node, _ = dice.choice(list(places(root, value["spec"], ("spec",))))
        junk = dice.choice([each for each in JUNK if not (isinstance(each, list) and "format" in node)])
        yield removed(value, at) if dice.random() < 0.2 else replaced(value, at, junk)


def removed(value: Json, at: Steps) -> Json:
    whole = copy.deepcopy(value)
    place: Any = whole
    for step in at[:-1]:
        place = place[step]
    del place[at[-1]]
    return whole


@pytest.mark.parametrize("seed", range(10))
def test_examples_made_wrong_at_random(applied: Cluster, seed: int) -> None:
    for value in spoiled(seed, 150):
        agree(applied, value)


METADATA: list[Json] = [
    {},
    {"name": ""},
    {"name": "A"},
    {"name": "a_b"},
    {"name": "a" * 254},
    {"name": "a..b"},
    {"generateName": "a-"},
    {"name": "a", "labels": {"a/b": "c", "x": ""}},
    {"name": "a", "labels": {"a": 1}},
    {"name": "a", "labels": {"a": True}},
    {"name": "a", "labels": {"a": None}},
    {"name": "a", "labels": {"": "c"}},
    {"name": "a", "labels": {"a/b/c": "d"}},
    {"name": "a", "labels": {"A.b/c": "d"}},
    {"name": "a", "labels": {"a": "-"}},
    {"name": "a", "labels": {"a": "b" * 64}},
    {"name": "a", "labels": None},
    {"name": "a", "labels": []},
    {"name": "a", "annotations": {"A.b/c": "anything goes: \n"}},
    {"name": "a", "annotations": {"a": 1}},
    {"name": "a", "annotations": {"a b": "c"}},
    {"name": "a", "annotations": {"a": "b" * 262144}},
    {"name": "a", "label": {"a": "b"}},
    {"name": "a", "namespace": "default"},
    {"name": 1},
]


@pytest.mark.parametrize("metadata", METADATA, ids=lambda each: repr(each)[:60])
@pytest.mark.parametrize("kind", ["NetworkSet", "KubernetesPolicy"])
def test_metadata(applied: Cluster, kind: str, metadata: Json) -> None:
    value = manifest("NetworkSet", "a", {}) if kind == "NetworkSet" else policy({})
    agree(applied, value | {"metadata": metadata})


def policy(spec: Any) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "a"},
        "spec": spec if not isinstance(spec, dict) else {"podSelector": {}} | spec,
    }


def requirement(**fields: Any) -> Json:
    return {"podSelector": {"matchExpressions": [fields]}}


def port(**fields: Any) -> Json:
    return {"ingress": [{}, {"ports": [{}, fields]}]}


def peer(**fields: Any) -> Json:
    return {"egress": [{"to": [{"podSelector": {}}, fields]}]}


def block(cidr: str, *excluded: str) -> Json:
    return peer(ipBlock={"cidr": cidr, "except": list(excluded)})


KUBERNETES: list[Any] = [
    {},
    None,
    "x",
    {"policyTypes": ["Ingress", "Egress"]},
    {"policyTypes": ["ingress"]},
    {"policyTypes": ["Ingress", "Egress", "Ingress"]},
    {"policyTypes": "Ingress"},
    {"podselector": {}},
    {"podSelector": None},
    {"podSelector": {"app": "web"}},
    {"podSelector": {"matchLabels": {"a": "b"}}},
    {"podSelector": {"matchLabels": {"a b": "b"}}},
    {"podSelector": {"matchLabels": {"a": "b c"}}},
    {"podSelector": {"matchLabels": {"a": 1}}},
    requirement(key="a", operator="In", values=["b", ""]),
    requirement(key="a", operator="In", values=[]),
    requirement(key="a", operator="In", values=["b c"]),
    requirement(key="a", operator="Exists"),
    requirement(key="a", operator="DoesNotExist", values=["b"]),
    requirement(key="a", operator="Is", values=["b"]),
    requirement(key="a"),
    requirement(operator="Exists"),
    requirement(key="a!", operator="NotIn", values=["b"]),
    {"ingress": []},
    {"ingress": None},
    {"ingress": [None]},
    {"ingress": [{}]},
    {"ingress": {}},
    {"ingress": [{"from": [], "ports": []}]},
    {"ingress": [{"to": [{"podSelector": {}}]}]},
    {"ingress": [{"from": [None]}]},
    port(port=80),
    port(port="http"),
    port(port="80"),
    port(port="HTTP"),
    port(port="a-name-too-long-for-ports"),
    port(port="a--b"),
    port(port=0),
    port(port=65536),
    port(port=True),
    port(port=1.5),
    port(protocol="SCTP"),
    port(protocol="tcp"),
    port(protocol="ICMP"),
    port(protocol=""),
    port(protocol=None),
    port(port=80, endPort=90),
    port(port=80, endPort=80),
    port(port=80, endPort=79),
    port(port=80, endPort=65536),
    port(port="http", endPort=90),
    port(endPort=90),
    port(port=80, endPort="90"),
    port(port=80, endPort=2**31),
    port(port=80, endport=90),
    peer(),
    peer(namespaceSelector={}),
    peer(podSelector={}, namespaceSelector={"matchLabels": {"a": "b"}}),
    peer(podSelector={}, ipBlock={"cidr": "10.0.0.0/8"}),
    peer(namespaceSelector={"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]}),
    peer(ipBlock={}),
    block("10.0.0.0/8"),
    block("10.0.0.0"),
    block("10.0.0.1/8"),
    block("10.0.0.0/33"),
    block("010.0.0.0/8"),
    block("10.0.0.0/08"),
    block("2001:db8::/32", "2001:db8:1::/48"),
    block("2001:db8::/32", "10.0.0.0/8"),
    block("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/16"),
    block("10.0.0.0/8", "10.0.0.0/8"),
    block("10.0.0.0/8", "0.0.0.0/0"),
    block("10.0.0.0/8", "x"),
    block("::ffff:10.0.0.0/104"),
    block("fe80::1%eth0/64"),
]


@pytest.mark.parametrize("spec", KUBERNETES, ids=lambda each: repr(each)[:70])
def test_kubernetes_network_policies(applied: Cluster, spec: Any) -> None:
    agree(applied, policy(spec))
