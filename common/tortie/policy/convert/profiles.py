"""Profiles of namespaces and service accounts, as Calico makes them up for the Kubernetes datastore."""

from __future__ import annotations

from collections.abc import Mapping

from tortie.api.compiled import CompiledPolicySpec, CompiledRule, Source
from tortie.api.kubernetes import Namespace, ServiceAccount
from tortie.policy.convert.identity import identified

NAMESPACE_PREFIX = "pcns."
SERVICE_ACCOUNT_PREFIX = "pcsa."
NAME = "projectcalico.org/name"

ALLOW_ALL = (CompiledRule(action="Allow", id=""),)


def profile_of_namespace(namespace: Namespace) -> CompiledPolicySpec:
    """`kns.<namespace>`: allows everything both ways, and gives its endpoints the namespace's labels as `pcns.…`."""
    metadata = namespace.metadata
    source = Source(kind="kns", name=metadata.name, uid=metadata.uid, generation=metadata.generation)
    return CompiledPolicySpec(
        source=source,
        ingress=identified(source, "Ingress", ALLOW_ALL),
        egress=identified(source, "Egress", ALLOW_ALL),
        labels=_inherited(NAMESPACE_PREFIX, metadata.name, metadata.labels),
    )


def profile_of_service_account(account: ServiceAccount) -> CompiledPolicySpec:
    """`ksa.<namespace>.<name>`: no rules, and the account's labels as `pcsa.…`."""
    metadata = account.metadata
    source = Source(
        kind="ksa",
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
    )
    return CompiledPolicySpec(source=source, labels=_inherited(SERVICE_ACCOUNT_PREFIX, metadata.name, metadata.labels))


def _inherited(prefix: str, name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """In sorted order, so that equal labels are equal bytes."""
    return {f"{prefix}{key}": value for key, value in sorted({**labels, NAME: name}.items())}
