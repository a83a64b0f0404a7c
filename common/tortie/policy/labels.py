"""Effective labels: what selectors of rules and policies are matched against (Calico: workload endpoint processor)."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMESPACE = "projectcalico.org/namespace"
ACCOUNT = "projectcalico.org/serviceaccount"
ORCHESTRATOR = "projectcalico.org/orchestrator"
NAME = "projectcalico.org/name"
"""On profiles, after their prefix."""

NAMESPACE_PREFIX = "pcns."
ACCOUNT_PREFIX = "pcsa."

VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
"""A label's value, as Kubernetes has it."""

Labels = Mapping[str, str]


def of_pod(own: Labels, namespace: str, account: str, inherited: Labels) -> dict[str, str]:
    """`inherited`: the labels of the pod's profiles, already prefixed. Nobody gets a namespace's labels by writing
    them on a pod."""
    labels = {**inherited, **{key: value for key, value in own.items() if not key.startswith(PREFIXES)}}
    labels[NAMESPACE] = namespace
    labels[ORCHESTRATOR] = "k8s"
    labels.pop(ACCOUNT, None)
    if account and VALUE.fullmatch(account):
        labels[ACCOUNT] = account
    return labels


PREFIXES = (NAMESPACE_PREFIX, ACCOUNT_PREFIX)


def of_workload(own: Labels, inherited: Labels) -> dict[str, str]:
    """Of a WorkloadEndpoint as calicoctl prints it: Calico's own labels are on it already."""
    return {**inherited, **{key: value for key, value in own.items() if not key.startswith(PREFIXES)}}


def of_network_set(own: Labels, namespace: str, inherited: Labels) -> dict[str, str]:
    """`inherited`: the labels of its namespace's profile; a global set has neither these nor a namespace."""
    labels = {**inherited, **own}
    labels.pop(NAMESPACE, None)
    return {**labels, NAMESPACE: namespace} if namespace else labels


def of_host(own: Labels, inherited: Labels) -> dict[str, str]:
    return {**inherited, **own}
