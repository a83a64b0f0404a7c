"""Calico's tiers, policies and profiles (`projectcalico.org/v3`)."""

from __future__ import annotations

import msgspec

from tortie.api.calico import API_VERSION
from tortie.api.meta import Condition, Metadata, Object, Record
from tortie.api.networking import NetworkPolicySpec as KubernetesNetworkPolicySpec
from tortie.api.rules import Rule

DEFAULT_TIER, ADMIN_TIER, BASELINE_TIER = "default", "kube-admin", "kube-baseline"


class Conditions(Record):
    """Status of the kinds of policy: `Ready` of a tier, `Accepted` and `Enforced` of a policy."""

    conditions: tuple[Condition, ...] = ()


class TierSpec(Record):
    order: float | None = None
    """The least first; None: last."""
    default_action: str = "Deny"
    """Deny or Pass: what meets a packet that a policy of the tier governs and no rule of it decides."""


class Tier(Object):
    api_version: str = API_VERSION
    kind: str = "Tier"
    metadata: Metadata
    spec: TierSpec = TierSpec()
    status: Conditions = Conditions()


BUILT_IN_TIERS = {
    ADMIN_TIER: TierSpec(order=1_000.0, default_action="Pass"),
    DEFAULT_TIER: TierSpec(order=1_000_000.0, default_action="Deny"),
    BASELINE_TIER: TierSpec(order=10_000_000.0, default_action="Pass"),
}
"""Always there, and always so."""


class PolicySpec(Record):
    """What the kinds have in common."""

    tier: str = DEFAULT_TIER
    order: float | None = None
    selector: str = ""
    service_account_selector: str = ""
    types: tuple[str, ...] = ()
    """Ingress, Egress; none: by the rules that there are."""
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    performance_hints: tuple[str, ...] = ()
    """Of no effect: every node has every policy."""


class NetworkPolicySpec(PolicySpec):
    pass


class GlobalNetworkPolicySpec(PolicySpec):
    namespace_selector: str = ""
    apply_on_forward: bool = False
    """Also to packets that a host forwards."""
    pre_dnat: bool = msgspec.field(default=False, name="preDNAT")
    do_not_track: bool = False


class StagedNetworkPolicySpec(NetworkPolicySpec):
    staged_action: str = "Set"
    """Set, Delete, Learn or Ignore."""


class StagedGlobalNetworkPolicySpec(GlobalNetworkPolicySpec):
    staged_action: str = "Set"


class StagedKubernetesNetworkPolicySpec(KubernetesNetworkPolicySpec):
    staged_action: str = "Set"


class NetworkPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "NetworkPolicy"
    metadata: Metadata
    spec: NetworkPolicySpec = NetworkPolicySpec()
    status: Conditions = Conditions()


class GlobalNetworkPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "GlobalNetworkPolicy"
    metadata: Metadata
    spec: GlobalNetworkPolicySpec = GlobalNetworkPolicySpec()
    status: Conditions = Conditions()


class StagedNetworkPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "StagedNetworkPolicy"
    metadata: Metadata
    spec: StagedNetworkPolicySpec = StagedNetworkPolicySpec()
    status: Conditions = Conditions()


class StagedGlobalNetworkPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "StagedGlobalNetworkPolicy"
    metadata: Metadata
    spec: StagedGlobalNetworkPolicySpec = StagedGlobalNetworkPolicySpec()
    status: Conditions = Conditions()


class StagedKubernetesNetworkPolicy(Object):
    api_version: str = API_VERSION
    kind: str = "StagedKubernetesNetworkPolicy"
    metadata: Metadata
    spec: StagedKubernetesNetworkPolicySpec = StagedKubernetesNetworkPolicySpec()
    status: Conditions = Conditions()


class ProfileSpec(Record):
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    labels_to_apply: dict[str, str] = {}
    """An endpoint's own label wins."""


class Profile(Object):
    """No CRD: as calicoctl prints it, for endpoints that are no pods."""

    api_version: str = API_VERSION
    kind: str = "Profile"
    metadata: Metadata
    spec: ProfileSpec = ProfileSpec()
