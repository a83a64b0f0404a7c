"""CompiledPolicies from what they are made of."""

from __future__ import annotations

from tortie.api.internal import CompiledPolicy, CompiledPolicySpec, compiled_name
from tortie.operator.world import World, source_key
from tortie.policy.convert import profile_of_namespace, profile_of_service_account


def policy(world: World, key: str) -> tuple[str, CompiledPolicySpec | None]:
    """(name of the object, what it should be without its stamp, None for nothing) for a source key."""
    kind, namespace, name = key.split("/")
    spec: CompiledPolicySpec | None = None
    if kind == "kns" and (found := world.namespaces.get(name)):
        spec = profile_of_namespace(found)
    elif kind == "ksa" and (account := world.service_accounts.get(f"{namespace}/{name}")):
        spec = profile_of_service_account(account)
    return compiled_name(kind, name, namespace), spec


def source_of(compiled: CompiledPolicy) -> str:
    """Source key of a published object."""
    source = compiled.spec.source
    return source_key(source.kind, source.name, source.namespace)


def sources(world: World) -> set[str]:
    """Source keys of all that is to be compiled."""
    namespaces = {source_key("kns", namespace.metadata.name) for namespace in world.namespaces}
    accounts = {source_key("ksa", a.metadata.name, a.metadata.namespace) for a in world.service_accounts}
    return namespaces | accounts
