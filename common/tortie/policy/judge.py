"""What one endpoint's policies say about a packet: tiers, policies and rules in order, then profiles."""

from __future__ import annotations

from tortie.api.compiled import CompiledPolicySpec
from tortie.api.meta import Record
from tortie.policy.cluster import KIND_NAMES, PRE_DNAT, UNTRACKED, Cluster, Endpoint
from tortie.policy.convert import profile_name
from tortie.policy.match import Packet, matches

ALLOW, DENY, LOG, PASS = "Allow", "Deny", "Log", "Pass"
END_OF_TIER, NO_PROFILE_MATCH, FAILSAFE, TO_HOST = "end-of-tier", "no-profile-match", "failsafe", "endpoint-to-host"


class Step(Record, omit_defaults=False):
    """An entry of a trace: a rule that matched, or what stood in for one."""

    tier: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    rule: int | str
    """Index in the user's YAML; `end-of-tier` (named: the last policy of it that governs the endpoint);
    `no-profile-match`; `failsafe`; `endpoint-to-host` (the node's defaultEndpointToHostAction)."""
    action: str


def _step(policy: CompiledPolicySpec, rule: int | str, action: str) -> Step:
    source = policy.source
    kind = KIND_NAMES[source.kind]
    return Step(tier=policy.tier, kind=kind, namespace=source.namespace, name=source.name, rule=rule, action=action)


def by_policies(
    cluster: Cluster, endpoint: Endpoint, direction: str, hook: str, packet: Packet, trace: list[Step]
) -> str | None:
    """Allow or Deny; None if no policy decides, because none governs the endpoint here or all tiers pass."""
    for policies in cluster.applicable(endpoint, direction, hook):
        action = _by_tier(cluster, policies, direction, packet, trace)
        if action in (ALLOW, DENY):
            return action
        if action == PASS or hook in (PRE_DNAT, UNTRACKED):
            continue
        tier = cluster.tiers.get(policies[0].tier)
        default = PASS if tier is not None and tier.default_action == PASS else DENY
        trace.append(_step(policies[-1], END_OF_TIER, default))
        if default == DENY:
            return DENY
    return None


def _by_tier(
    cluster: Cluster, policies: list[CompiledPolicySpec], direction: str, packet: Packet, trace: list[Step]
) -> str | None:
    for policy in policies:
        rules = policy.ingress if direction == "Ingress" else policy.egress
        for index, rule in enumerate(rules):
            if matches(rule, packet, cluster):
                trace.append(_step(policy, index, rule.action))
                if rule.action != LOG:
                    return rule.action
    return None


def by_profiles(cluster: Cluster, endpoint: Endpoint, direction: str, packet: Packet, trace: list[Step]) -> str:
    """Allow or Deny. A profile that does not exist denies, and so does Pass in a profile."""
    for name in endpoint.profiles:
        profile = cluster.profiles.get(name)
        if profile is None:
            trace.append(Step(kind="Profile", name=name, rule=NO_PROFILE_MATCH, action=DENY))
            return DENY
        for index, rule in enumerate(profile.ingress if direction == "Ingress" else profile.egress):
            if matches(rule, packet, cluster):
                action = DENY if rule.action == PASS else rule.action
                trace.append(Step(kind="Profile", name=profile_name(profile.source), rule=index, action=action))
                if action != LOG:
                    return action
    trace.append(Step(kind="Profile", rule=NO_PROFILE_MATCH, action=DENY))
    return DENY
