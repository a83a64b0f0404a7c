"""The record of every kind that users write, by apiVersion and kind."""

from __future__ import annotations

import msgspec

from tortie.api import calico, endpoints, felix, kubernetes, networking, policies, services, sets
from tortie.api.meta import Object

RECORDS: tuple[type[Object], ...] = (
    kubernetes.Namespace,
    kubernetes.Node,
    kubernetes.Pod,
    kubernetes.ServiceAccount,
    services.Service,
    services.EndpointSlice,
    networking.NetworkPolicy,
    networking.ClusterNetworkPolicy,
    calico.IPPool,
    calico.IPReservation,
    calico.IPAMConfiguration,
    calico.BlockAffinity,
    calico.IPAMBlock,
    calico.IPAMHandle,
    calico.ClusterInformation,
    endpoints.HostEndpoint,
    endpoints.WorkloadEndpoint,
    felix.FelixConfiguration,
    policies.GlobalNetworkPolicy,
    policies.NetworkPolicy,
    policies.Profile,
    policies.StagedGlobalNetworkPolicy,
    policies.StagedKubernetesNetworkPolicy,
    policies.StagedNetworkPolicy,
    policies.Tier,
    sets.GlobalNetworkSet,
    sets.NetworkSet,
)


def _default(record: type[Object], field: str) -> str:
    return str(next(info.default for info in msgspec.structs.fields(record) if info.name == field))


KINDS: dict[tuple[str, str], type[Object]] = {
    (_default(record, "api_version"), _default(record, "kind")): record for record in RECORDS
}
