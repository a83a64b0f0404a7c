"""Every constraint of every schema refuses a value that breaks it, naming field and, where there is one, value."""

from __future__ import annotations

import json

import pytest

from .conftest import Cluster, collection, definitions, examples, nodes, schema
from .mutations import LONGEST, Mutation, dotted, mutations

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in definitions()}
MUTATIONS = list(mutations())
USERS = {example["kind"] for example in examples()}

NUMBERS, STRINGS = ("minimum", "maximum"), ("maxLength", "minLength", "pattern", "format")
TRIED = ("enum", "minItems", "maxItems", "minProperties", "maxProperties", *NUMBERS, *STRINGS)


def test_every_constraint_is_tried() -> None:
    tried = {(each.constraint.split()[0], each.node) for each in MUTATIONS}
    written = {
        (constraint, json.dumps(node, sort_keys=True))
        for kind in USERS
        for _, node in nodes(schema(BY_KIND[kind]))
        for constraint in TRIED
        if constraint in node
        and not (constraint == "maxItems" and node[constraint] > LONGEST)
        and not (constraint == "pattern" and node[constraint] == "^.*")
        and not (constraint == "format" and node[constraint] in ("int32", "int64"))
    }
    assert written - tried == set()
    assert {each.constraint for each in MUTATIONS} >= {"required", "type", "list type"}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_constraint(applied: Cluster, mutation: Mutation) -> None:
    path = collection(BY_KIND[mutation.kind])
    if mutation.at[0] == "status":
        name = mutation.bad["metadata"]["name"]
        code, created = applied.request("POST", path, mutation.bad | {"status": {}})
        assert code == 201, created["message"]
        body = created | {"status": mutation.bad["status"]}
        code, answer = applied.request("PUT", f"{path}/{name}/status?dryRun=All", body)
        applied.request("DELETE", f"{path}/{name}")
    else:
        code, answer = applied.request("POST", f"{path}?dryRun=All", mutation.bad)
    assert code == 422, answer
    found = [each for each in answer["details"]["causes"] if each["field"] == dotted(mutation.names)]
    assert any(mutation.says in each["message"] for each in found), answer["message"]
