"""The normal form itself: canonical, stable, compact, and closed where something is not understood."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tortie.api.compiled import CompiledPolicySpec, CompiledRule
from tortie.api.kinds import KINDS
from tortie.api.selector import parse
from tortie.policy.convert import Conversion, Policy, convert

from .objects import Json
from .policies import BROKEN, cluster_policies, global_policies, kubernetes_policies, network_policies, rules
from .test_evaluator import SLOW

policies = st.one_of(
    network_policies(),
    global_policies(hosts=False),
    global_policies(hosts=True),
    kubernetes_policies(),
    cluster_policies(),
)


def converted(document: Json) -> Conversion:
    record = msgspec.convert(document, KINDS[document["apiVersion"], document["kind"]])
    assert isinstance(record, Policy)
    return convert(record)


def selectors(spec: CompiledPolicySpec) -> list[str]:
    peers = [peer for rule in (*spec.ingress, *spec.egress) for peer in (*rule.sources, *rule.destinations)]
    return [spec.selector, *(text for peer in peers for text in (peer.selector, peer.not_selector) if text)]


@given(policies)
@settings(SLOW, max_examples=300)
def test_the_normal_form_is_canonical_and_survives_the_wire(document: Json) -> None:
    spec = converted(document).spec
    wire = msgspec.json.encode(spec)
    assert msgspec.json.decode(wire, type=CompiledPolicySpec) == spec
    assert b':""' not in wire
    assert b":null" not in wire
    for text in selectors(spec):
        assert parse(text).canonical == text
    assert converted(document).spec == spec


@given(policies)
@settings(SLOW, max_examples=150)
def test_one_rule_of_the_yaml_is_one_rule_at_the_same_index(document: Json) -> None:
    conversion = converted(document)
    users = document["spec"]
    for direction, compiled in (("ingress", conversion.spec.ingress), ("egress", conversion.spec.egress)):
        assert len(compiled) == len(users.get(direction, []))
        assert len({rule.id for rule in compiled}) == len(compiled)
    failed = {problem.field.split("]")[0] for problem in (*conversion.errors, *conversion.ignored)}
    for direction, compiled in (("ingress", conversion.spec.ingress), ("egress", conversion.spec.egress)):
        for index, rule in enumerate(compiled):
            if rule.void:
                assert f"spec.{direction}[{index}" in failed


@given(network_policies(), st.integers(0, 3), rules("Ingress", "red"), st.booleans())
@settings(SLOW, max_examples=150)
def test_ids_of_rules_survive_edits_elsewhere(document: Json, place: int, extra: Json, labels: bool) -> None:
    document["metadata"]["uid"] = "6f0d"
    before = converted(document).spec.ingress
    edited = list(document["spec"].get("ingress", []))
    edited.insert(place, extra)
    spec = document["spec"] | {"ingress": edited, "order": 7} | ({"selector": "has(z)"} if labels else {})
    after = converted(document | {"spec": spec}).spec.ingress
    added = min(place, len(before))
    rest = after[:added] + after[added + 1 :]
    twins = {same(rule) for rule in before} & {same(after[added])}
    for old, new in zip(before, rest, strict=True):
        assert old.id == new.id or same(old) in twins
    assert {rule.id for rule in before} <= {rule.id for rule in after}


def same(rule: CompiledRule) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(rule, id=""))


@given(
    st.sampled_from(BROKEN), st.sampled_from(["Allow", "Deny", "Pass", "Log"]), st.sampled_from(["Ingress", "Egress"])
)
def test_a_rule_that_is_not_understood_fails_closed_and_says_why(broken: Json, action: str, direction: str) -> None:
    name = direction.lower()
    good = {"action": "Allow", "source": {"selector": "has(a)"}}
    document = {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": {"name": "p"}}
    document |= {"spec": {name: [good, broken | {"action": action}, good]}}
    conversion = converted(document)
    problems = (*conversion.errors, *conversion.ignored)
    assert problems
    assert all(problem.field.startswith(f"spec.{name}[1]") and problem.message for problem in problems)
    first, failed, last = getattr(conversion.spec, name)
    assert not first.void
    assert first.id != last.id
    assert failed.void == (action in ("Allow", "Log"))
    assert failed.action == ("Deny" if action in ("Deny", "Pass") else action)
    assert failed == CompiledRule(action=failed.action, id=failed.id, void=failed.void)
    assert not conversion.provisional
