"""Profiles: of namespaces and service accounts, as Calico makes them up for the Kubernetes datastore, and those that
calicoctl prints."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tortie.api.compiled import CompiledPolicySpec, CompiledRule, Source
from tortie.api.kubernetes import Namespace, ServiceAccount
from tortie.api.policies import Profile
from tortie.policy.convert import rules
from tortie.policy.convert.identity import identified, source_of
from tortie.policy.convert.ignored import ignored
from tortie.policy.convert.problems import Conversion, Findings
from tortie.policy.convert.rules import Scope
from tortie.policy.labels import ACCOUNT_PREFIX, NAME, NAMESPACE_PREFIX

ALLOW_ALL = (CompiledRule(action="Allow", id=""),)


def profile_of_namespace(namespace: Namespace) -> CompiledPolicySpec:
    """`kns.<namespace>`: allows everything both ways, and gives its endpoints the namespace's labels as `pcns.…`."""
    metadata = namespace.metadata
    source = source_of("kns", metadata)
    return CompiledPolicySpec(
        source=source,
        ingress=identified(source, "Ingress", ALLOW_ALL),
        egress=identified(source, "Egress", ALLOW_ALL),
        labels=_inherited(NAMESPACE_PREFIX, metadata.name, metadata.labels),
    )


def profile_of_service_account(account: ServiceAccount) -> CompiledPolicySpec:
    """`ksa.<namespace>.<name>`: no rules, and the account's labels as `pcsa.…`."""
    metadata = account.metadata
    labels = _inherited(ACCOUNT_PREFIX, metadata.name, metadata.labels)
    return CompiledPolicySpec(source=source_of("ksa", metadata), labels=labels)


def _inherited(prefix: str, name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """In sorted order, so that equal labels are equal bytes."""
    return {f"{prefix}{key}": value for key, value in sorted({**labels, NAME: name}.items())}


def profile(user: Profile) -> Conversion:
    findings = Findings()
    source = source_of("profile", user.metadata)
    spec = CompiledPolicySpec(
        source=source,
        ingress=identified(source, "Ingress", rules.rules(user.spec.ingress, Scope("Ingress"), findings)),
        egress=identified(source, "Egress", rules.rules(user.spec.egress, Scope("Egress"), findings)),
        labels=dict(sorted(user.spec.labels_to_apply.items())),
    )
    return Conversion(spec, tuple(findings.errors), ignored(msgspec.to_builtins(user)))


def _default_allow() -> CompiledPolicySpec:
    source = Source(kind="profile", name="projectcalico-default-allow")
    return CompiledPolicySpec(
        source=source,
        ingress=identified(source, "Ingress", ALLOW_ALL),
        egress=identified(source, "Egress", ALLOW_ALL),
    )


DEFAULT_ALLOW = _default_allow()
"""The profile that is always there; automatic host endpoints name it."""


def profile_name(source: Source) -> str:
    """By which endpoints name it: `kns.<namespace>`, `ksa.<namespace>.<account>`, or its own name."""
    if source.kind == "profile":
        return source.name
    return ".".join(part for part in (source.kind, source.namespace, source.name) if part)
