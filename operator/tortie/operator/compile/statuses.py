"""How far a policy is in force, from what is known of it and of the nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tortie.api.internal import NodeReport, NodeState, PolicyStatusStatus
from tortie.api.meta import Condition
from tortie.policy.convert import Conversion

ACCEPTED, ENFORCED = "Accepted", "Enforced"
"""Types of the conditions."""
POLICY_ITEMS = "policy"
"""First word of the items of an agent's errors that are about endpoints' policies."""
MOST_SHOWN = 20
"""Nodes, and errors, that are named; the counts are of all."""


@dataclass(frozen=True)
class Facts:
    """All that a status depends on."""

    conversion: Conversion
    version: int
    """resourceVersion of the CompiledPolicy that says `conversion`; 0 while it is not written."""
    tier_exists: bool
    nodes: Collection[str]
    """Those with a selected endpoint."""
    host_endpoints: Sequence[str]
    """Names of those that it selects."""
    states: Mapping[str, NodeState]
    reachable: Collection[str]


def status(facts: Facts, before: PolicyStatusStatus, now: str) -> PolicyStatusStatus:
    """`before` is what was said last: a condition's time is that of its last change. `now` is RFC 3339."""
    reachable = sorted(set(facts.nodes) & set(facts.reachable))
    unreachable = sorted(set(facts.nodes) - set(facts.reachable))
    asked = reachable if facts.version and not facts.conversion.spec.staged else []
    failed = {node: why for node in asked if (why := failure(facts.states.get(node)))}
    waiting = {n: why for n in asked if n not in failed and (why := wait(facts.states.get(n), facts.version))}
    enforced = len(asked) - len(failed) - len(waiting)
    conditions = (
        condition(before, ACCEPTED, *accepted(facts), now),
        condition(before, ENFORCED, *in_force(facts, len(reachable), enforced, failed, waiting), now),
    )
    return PolicyStatusStatus(
        compiled_version=facts.version,
        conditions=conditions,
        nodes=len(reachable),
        enforced=enforced,
        waiting=reports(waiting),
        failed=reports(failed),
        unreachable=reports(dict.fromkeys(unreachable, "NotReady")),
    )


def accepted(facts: Facts) -> tuple[str, str, str]:
    """(status, reason, message)."""
    conversion = facts.conversion
    if conversion.errors:
        said = "; ".join(map(str, conversion.errors[:MOST_SHOWN]))
        return "False", "Invalid", said
    if not facts.tier_exists:
        return "True", "TierNotFound", f"there is no tier {conversion.spec.tier!r}: the policy counts after all tiers"
    if conversion.ignored:
        return "True", "FieldsIgnored", "; ".join(map(str, conversion.ignored[:MOST_SHOWN]))
    return "True", "Valid", ""


def in_force(
    facts: Facts, nodes: int, enforced: int, failed: Mapping[str, str], waiting: Mapping[str, str]
) -> tuple[str, str, str]:
    """(status, reason, message)."""
    if facts.conversion.spec.staged:
        return "False", "Staged", "a staged policy is never enforced"
    if facts.host_endpoints:
        named = ", ".join(facts.host_endpoints[:MOST_SHOWN])
        return "False", "HostEndpointsNotProgrammed", f"it selects host endpoints, which are not programmed: {named}"
    if not facts.version:
        return "False", "Compiling", "the compiled policy is not written yet"
    if enforced == nodes:
        return "True", "Enforced", f"in force on {nodes} of {nodes} nodes"
    told = "; ".join(f"{node}: {why}" for node, why in list({**failed, **waiting}.items())[:MOST_SHOWN])
    return "False", "Failed" if failed else "Waiting", f"in force on {enforced} of {nodes} nodes; {told}"


def failure(state: NodeState | None) -> str:
    """Why a node cannot enforce what its agent has adopted; empty if nothing says so."""
    errors = state.status.errors if state is not None else ()
    return next((f"{e.item}: {e.message}" for e in errors if e.item.partition("/")[0] == POLICY_ITEMS), "")


def wait(state: NodeState | None, version: int) -> str:
    """Why a node does not enforce that version yet; empty if it does."""
    if state is None or not state.status.applied:
        return "its agent has not reported yet"
    applied = state.status.applied.get("compiledpolicies", 0)
    return "" if applied >= version else f"its agent has applied version {applied}, not yet {version}"


def reports(nodes: Mapping[str, str]) -> tuple[NodeReport, ...]:
    return tuple(NodeReport(node=node, reason=why) for node, why in sorted(nodes.items())[:MOST_SHOWN])


def condition(before: PolicyStatusStatus, kind: str, status: str, reason: str, message: str, now: str) -> Condition:
    """Without observedGeneration, which `kubectl wait` would compare with the PolicyStatus's own generation."""
    known = next((c for c in before.conditions if c.type == kind), None)
    since = known.last_transition_time if known is not None and known.status == status else now
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
    )
