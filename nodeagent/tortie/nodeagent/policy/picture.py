"""Adopted objects as the cluster that `tortie.policy` knows, so that its semantics are ours."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from tortie.api import protocols
from tortie.api.compiled import Backends
from tortie.api.internal import CompiledNetworkSet, CompiledPolicy, CompiledPolicySpec, CompiledTier, LabelSet, NodePeer
from tortie.api.internal import Endpoint as Entry
from tortie.policy import labels
from tortie.policy.cluster import Cluster, Endpoint, NamedPort, NetworkSet, network
from tortie.policy.convert import profile_name

PROFILES = ("kns", "ksa", "profile")


def cluster(
    peers: Iterable[NodePeer],
    policies: Iterable[CompiledPolicy],
    tiers: Iterable[CompiledTier],
    sets: Iterable[CompiledNetworkSet],
) -> Cluster:
    specs = [policy.spec for policy in policies]
    profiles = {profile_name(spec.source): spec for spec in specs if spec.source.kind in PROFILES}
    found: list[NetworkSet] = []
    services: dict[str, tuple[Backends, ...]] = {}
    for spec in (each.spec for each in sets):
        source = spec.source
        if source.kind == "svc":
            name = f"{source.namespace}/{source.name}"
            services[name] = (*services.get(name, ()), *spec.backends)
        else:
            inherited = _inherited(profiles, [f"kns.{source.namespace}"]) if source.namespace else {}
            effective = labels.of_network_set(spec.labels, source.namespace, inherited)
            found.append(NetworkSet(source.name, effective, tuple(map(network, spec.nets))))
    return Cluster(
        endpoints=tuple(each for peer in peers for each in _endpoints(peer, profiles)),
        sets=tuple(found),
        services=services,
        tiers={tier.metadata.name: tier.spec for tier in tiers},
        policies=tuple(spec for spec in specs if spec.source.kind not in PROFILES),
        profiles=profiles,
    )


def own(cluster: Cluster, node: str) -> dict[str, Endpoint]:
    """Endpoints of one node by name."""
    return {endpoint.name: endpoint for endpoint in cluster.endpoints if endpoint.node == node}


def _inherited(profiles: Mapping[str, CompiledPolicySpec], names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        if name in profiles:
            found |= profiles[name].labels
    return found


def _endpoints(peer: NodePeer, profiles: Mapping[str, CompiledPolicySpec]) -> Iterable[Endpoint]:
    effective = []
    for each in peer.spec.label_sets:
        names = profile_names(each)
        own = labels.of_pod(each.labels, each.namespace, each.service_account, _inherited(profiles, names))
        effective.append((own, names))
    for entry in peer.spec.endpoints:
        if not entry.error and entry.labels < len(effective):
            own, names = effective[entry.labels]
            yield _endpoint(entry, peer.metadata.name, own, names)


def profile_names(labelled: LabelSet) -> tuple[str, str]:
    return f"kns.{labelled.namespace}", f"ksa.{labelled.namespace}.{labelled.service_account}"


def _endpoint(entry: Entry, node: str, own: Mapping[str, str], profiles: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        name=entry.name,
        node=node,
        labels=own,
        addresses=tuple(map(ipaddress.ip_address, entry.addresses)),
        ports=tuple(NamedPort(p.name, protocols.protocol_number(p.protocol), p.port) for p in entry.ports),
        profiles=profiles,
    )
