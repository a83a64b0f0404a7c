"""CompiledPolicies and CompiledTiers from what they are made of."""

from __future__ import annotations

from tortie.api.compiled import CompiledTierSpec
from tortie.api.internal import compiled_name
from tortie.api.policies import Tier
from tortie.operator.keys import compiled_source, source_key
from tortie.operator.world import POLICIES, World
from tortie.policy.convert import Conversion, convert, profile_of_namespace, profile_of_service_account


def conversion(world: World, key: str) -> Conversion | None:
    """What a source key is to become, without its stamp; None for nothing."""
    kind, namespace, name = key.split("/")
    if kind == "kns":
        found = world.namespaces.get(name)
        return Conversion(profile_of_namespace(found)) if found else None
    if kind == "ksa":
        account = world.service_accounts.get(f"{namespace}/{name}")
        return Conversion(profile_of_service_account(account)) if account else None
    user = world.shelves[kind].get(f"{namespace}/{name}" if namespace else name)
    return convert(user) if user is not None else None


def name_of(key: str) -> str:
    """Name of the CompiledPolicy of a source key."""
    kind, namespace, name = key.split("/")
    return compiled_name(kind, name, namespace)


def sources(world: World) -> set[str]:
    """Source keys of all that is, or is to be, compiled."""
    published = {compiled_source(policy) for policy in world.policies}
    namespaces = {source_key("kns", namespace.metadata.name) for namespace in world.namespaces}
    accounts = {source_key("ksa", a.metadata.name, a.metadata.namespace) for a in world.service_accounts}
    users = {
        source_key(kind, policy.metadata.name, policy.metadata.namespace)
        for kind in POLICIES
        for policy in world.shelves[kind]
    }
    return published | namespaces | accounts | users


def tier(user: Tier) -> CompiledTierSpec:
    return CompiledTierSpec(order=user.spec.order, default_action=user.spec.default_action)
