"""Users' objects → the one normal form (`tortie.api.compiled`)."""

from __future__ import annotations

from tortie.api.networking import ClusterNetworkPolicy
from tortie.api.networking import NetworkPolicy as KubernetesNetworkPolicy
from tortie.api.policies import Profile, StagedKubernetesNetworkPolicy
from tortie.policy.convert import calico, clusterpolicy, kubernetes, profiles
from tortie.policy.convert.calico import CalicoPolicy
from tortie.policy.convert.ignored import IGNORED as IGNORED
from tortie.policy.convert.ignored import ignored as ignored
from tortie.policy.convert.problems import Conversion as Conversion
from tortie.policy.convert.problems import Problem as Problem
from tortie.policy.convert.profiles import DEFAULT_ALLOW as DEFAULT_ALLOW
from tortie.policy.convert.profiles import profile_name as profile_name
from tortie.policy.convert.profiles import profile_of_namespace as profile_of_namespace
from tortie.policy.convert.profiles import profile_of_service_account as profile_of_service_account
from tortie.policy.convert.sets import network_set as network_set
from tortie.policy.convert.sets import service_set as service_set

Policy = CalicoPolicy | KubernetesNetworkPolicy | StagedKubernetesNetworkPolicy | ClusterNetworkPolicy


def convert(user: Policy | Profile) -> Conversion:
    """Never raises: what is not understood fails closed and is among the errors."""
    match user:
        case KubernetesNetworkPolicy() | StagedKubernetesNetworkPolicy():
            return kubernetes.policy(user)
        case ClusterNetworkPolicy():
            return clusterpolicy.policy(user)
        case Profile():
            return profiles.profile(user)
    return calico.policy(user)
