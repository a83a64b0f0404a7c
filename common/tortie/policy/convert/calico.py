"""Calico's policies, staged ones too → the normal form."""

from __future__ import annotations

import msgspec

from tortie.api.compiled import CompiledPolicySpec
from tortie.api.policies import (
    GlobalNetworkPolicy,
    GlobalNetworkPolicySpec,
    NetworkPolicy,
    PolicySpec,
    StagedGlobalNetworkPolicy,
    StagedGlobalNetworkPolicySpec,
    StagedNetworkPolicy,
    StagedNetworkPolicySpec,
)
from tortie.policy.convert import rules, selectors
from tortie.policy.convert.identity import identified, source_of
from tortie.policy.convert.ignored import ignored
from tortie.policy.convert.problems import Conversion, Findings
from tortie.policy.convert.rules import Scope
from tortie.policy.convert.selectors import EndpointSelector

DIRECTIONS = ("Ingress", "Egress")
STAGED_ACTIONS = ("Set", "Delete", "Learn", "Ignore")

CalicoPolicy = NetworkPolicy | GlobalNetworkPolicy | StagedNetworkPolicy | StagedGlobalNetworkPolicy
SHORT = {NetworkPolicy: "np", GlobalNetworkPolicy: "gnp", StagedNetworkPolicy: "snp", StagedGlobalNetworkPolicy: "sgnp"}


def policy(user: CalicoPolicy) -> Conversion:
    findings = Findings()
    spec, namespace = user.spec, user.metadata.namespace
    source = source_of(SHORT[type(user)], user.metadata)
    everywhere = spec if isinstance(spec, GlobalNetworkPolicySpec) else GlobalNetworkPolicySpec()
    hook_understood = _check_hook(everywhere, findings)
    selector = selectors.endpoints(
        EndpointSelector(
            selector=spec.selector,
            service_accounts=spec.service_account_selector,
            namespaces=everywhere.namespace_selector,
            namespace=namespace,
        ),
        findings,
    )
    provisional = selector is None or not hook_understood
    compiled = CompiledPolicySpec(
        source=source,
        tier=spec.tier,
        order=spec.order,
        selector=selectors.fallback(namespace) if provisional or selector is None else selector,
        types=types(spec.types, bool(spec.ingress), bool(spec.egress), findings),
        staged=_staged(spec, findings),
        apply_on_forward=everywhere.apply_on_forward,
        pre_dnat=everywhere.pre_dnat,
        do_not_track=everywhere.do_not_track,
        ingress=identified(source, "Ingress", rules.rules(spec.ingress, Scope("Ingress", namespace), findings)),
        egress=identified(source, "Egress", rules.rules(spec.egress, Scope("Egress", namespace), findings)),
    )
    return Conversion(compiled, tuple(findings.errors), ignored(msgspec.to_builtins(user)), provisional)


def types(given: tuple[str, ...], ingress: bool, egress: bool, findings: Findings) -> tuple[str, ...]:
    """The directions that a policy governs; without any given, by which rules it has."""
    for index, each in enumerate(given):
        if each not in DIRECTIONS:
            findings.error(f"spec.types[{index}]", each, f"must be one of {', '.join(DIRECTIONS)}")
            return DIRECTIONS
    if given:
        return tuple(each for each in DIRECTIONS if each in given)
    if ingress and egress:
        return DIRECTIONS
    return ("Egress",) if egress else ("Ingress",)


def _check_hook(spec: GlobalNetworkPolicySpec, findings: Findings) -> bool:
    """Whether the combination of preDNAT, doNotTrack and applyOnForward has a meaning."""
    before = len(findings.errors)
    if spec.pre_dnat and spec.do_not_track:
        findings.error("spec.preDNAT", True, "cannot stand beside doNotTrack")
    if spec.pre_dnat and (spec.egress or "Egress" in spec.types):
        findings.error("spec.preDNAT", True, "is for ingress only")
    if (spec.pre_dnat or spec.do_not_track) and not spec.apply_on_forward:
        name = "spec.preDNAT" if spec.pre_dnat else "spec.doNotTrack"
        findings.error(name, True, "needs applyOnForward: true")
    return len(findings.errors) == before


def _staged(spec: PolicySpec, findings: Findings) -> str:
    if not isinstance(spec, StagedNetworkPolicySpec | StagedGlobalNetworkPolicySpec):
        return ""
    return staged(spec, type(spec)(tier=spec.tier, staged_action="Delete"), findings)


def staged(spec: msgspec.Struct, empty: msgspec.Struct, findings: Findings) -> str:
    """The staged action. `empty`: the spec of a Delete, which says nothing else."""
    action = str(getattr(spec, "staged_action", ""))
    if action not in STAGED_ACTIONS:
        findings.error("spec.stagedAction", action, f"must be one of {', '.join(STAGED_ACTIONS)}")
        return "Ignore"
    if action == "Delete" and spec != empty:
        findings.error("spec.stagedAction", action, "leaves no room for other fields but tier")
    return action
