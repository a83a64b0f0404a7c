"""What a PolicyStatus says, from what is known of a policy and of the nodes that it concerns."""

from __future__ import annotations

from typing import Any

from tortie.api.compiled import CompiledPolicySpec, Source
from tortie.api.internal import ItemError, NodeState, NodeStateStatus, PolicyStatusStatus
from tortie.api.meta import Condition, Metadata
from tortie.operator.compile.statuses import MOST_SHOWN, Facts, status
from tortie.policy.convert import Conversion, Problem

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"
PROBLEM = Problem("spec.ingress[0].source.selector", "a ==", "ends too early")


def facts(
    applied: dict[str, int], *, unreachable: tuple[str, ...] = (), errors: dict[str, str] | None = None, **changes: Any
) -> Facts:
    """`applied`: node → version of policies that its agent reported, 0 if it never did. `errors`: node → item."""
    spec = CompiledPolicySpec(source=Source(kind="np"), selector="all()", staged=changes.pop("staged", ""))
    problems = {key: changes.pop(key, ()) for key in ("errors_of_policy", "ignored")}
    conversion = Conversion(spec, errors=problems["errors_of_policy"], ignored=problems["ignored"])
    states = {}
    for node, version in applied.items():
        item = (errors or {}).get(node)
        said = (ItemError(item=item, message="no room"),) if item else ()
        versions = {"compiledpolicies": version} if version else {}
        states[node] = NodeState(metadata=Metadata(name=node), status=NodeStateStatus(applied=versions, errors=said))
    given: dict[str, Any] = {"version": 7, "tier_exists": True, "host_endpoints": (), **changes}
    reachable = applied.keys() - set(unreachable)
    return Facts(conversion=conversion, nodes=applied.keys(), states=states, reachable=reachable, **given)


def said(given: Facts, before: PolicyStatusStatus | None = None) -> tuple[PolicyStatusStatus, dict[str, Condition]]:
    result = status(given, before or PolicyStatusStatus(), NOW)
    return result, {each.type: each for each in result.conditions}


def test_nodes_count_that_have_the_version_or_a_later_one() -> None:
    result, conditions = said(facts({"a": 7, "b": 9}))
    assert (result.compiled_version, result.enforced, result.nodes) == (7, 2, 2)
    assert (conditions["Enforced"].status, conditions["Enforced"].reason) == ("True", "Enforced")
    assert (conditions["Accepted"].status, conditions["Accepted"].reason) == ("True", "Valid")


def test_a_policy_without_nodes_is_enforced_once_it_is_written() -> None:
    assert said(facts({}))[1]["Enforced"].status == "True"
    assert said(facts({}, version=0))[1]["Enforced"].reason == "Compiling"


def test_no_node_has_what_is_not_written() -> None:
    result, conditions = said(facts({"a": 7}, version=0))
    assert (result.enforced, result.nodes, conditions["Enforced"].reason) == (0, 1, "Compiling")


def test_who_has_an_earlier_version_or_never_reported_is_waited_for() -> None:
    result, conditions = said(facts({"a": 7, "b": 6, "c": 0}))
    assert [each.node for each in result.waiting] == ["b", "c"]
    assert "version 6, not yet 7" in result.waiting[0].reason
    assert (result.enforced, result.nodes, conditions["Enforced"].reason) == (1, 3, "Waiting")


def test_a_node_that_fails_at_policy_does_not_count_and_one_that_fails_at_something_else_does() -> None:
    result, conditions = said(facts({"a": 7, "b": 7}, errors={"a": "policy/shop/db", "b": "route/10.0.0.0/8"}))
    assert [(each.node, each.reason) for each in result.failed] == [("a", "policy/shop/db: no room")]
    assert (result.enforced, result.nodes, conditions["Enforced"].reason) == (1, 2, "Failed")


def test_unreachable_nodes_are_apart_and_do_not_keep_a_policy_from_being_enforced() -> None:
    result, conditions = said(facts({"a": 7, "b": 3}, unreachable=("b",)))
    assert [each.node for each in result.unreachable] == ["b"]
    assert (result.enforced, result.nodes, conditions["Enforced"].status) == (1, 1, "True")


def test_a_staged_policy_is_on_no_node_and_waits_for_none() -> None:
    result, conditions = said(facts({"a": 7, "b": 3}, staged="Set", errors={"a": "policy/shop/db"}))
    assert (conditions["Enforced"].status, conditions["Enforced"].reason) == ("False", "Staged")
    assert (result.enforced, result.nodes, result.waiting, result.failed) == (0, 2, (), ())


def test_a_policy_that_selects_host_endpoints_says_that_these_are_not_programmed() -> None:
    condition = said(facts({"a": 7}, host_endpoints=["a-eth0"]))[1]["Enforced"]
    assert (condition.status, condition.reason) == ("False", "HostEndpointsNotProgrammed")
    assert "a-eth0" in condition.message


def test_what_was_not_understood_is_named_before_all_else() -> None:
    given = facts({}, errors_of_policy=(PROBLEM,), ignored=(PROBLEM,), tier_exists=False)
    condition = said(given)[1]["Accepted"]
    assert (condition.status, condition.reason) == ("False", "Invalid")
    assert condition.message == "spec.ingress[0].source.selector 'a ==': ends too early"


def test_fields_without_effect_and_a_missing_tier_are_no_reason_not_to_accept() -> None:
    for changes, reason in (({"ignored": (PROBLEM,)}, "FieldsIgnored"), ({"tier_exists": False}, "TierNotFound")):
        condition = said(facts({}, **changes))[1]["Accepted"]
        assert (condition.status, condition.reason) == ("True", reason)


def test_a_condition_keeps_its_time_while_its_status_is_the_same() -> None:
    then = tuple(
        Condition(type=kind, status="True", reason="Valid", last_transition_time=THEN)
        for kind in ("Accepted", "Enforced")
    )
    conditions = said(facts({"a": 3}), PolicyStatusStatus(conditions=then))[1]
    assert (conditions["Accepted"].last_transition_time, conditions["Enforced"].last_transition_time) == (THEN, NOW)


def test_of_many_nodes_some_are_named_and_all_counted() -> None:
    result, conditions = said(facts({f"n{number:03}": 1 for number in range(500)}))
    assert (result.enforced, result.nodes, len(result.waiting)) == (0, 500, MOST_SHOWN)
    assert "n000: " in conditions["Enforced"].message
    assert f"n{MOST_SHOWN:03}: " not in conditions["Enforced"].message
