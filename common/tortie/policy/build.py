"""A cluster from users' objects, as they are in files or come from an API server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from tortie.api import protocols
from tortie.api.compiled import CompiledPolicySpec, CompiledTierSpec
from tortie.api.endpoints import HostEndpoint, WorkloadEndpoint
from tortie.api.felix import FelixConfiguration
from tortie.api.kinds import KINDS
from tortie.api.kubernetes import Namespace, Pod, ServiceAccount
from tortie.api.kubernetes import Node as KubernetesNode
from tortie.api.meta import Metadata, Object
from tortie.api.policies import BUILT_IN_TIERS, Profile, Tier
from tortie.api.services import SERVICE_LABEL, EndpointSlice
from tortie.api.sets import GlobalNetworkSet, NetworkSet
from tortie.policy import labels
from tortie.policy.cluster import Address, Cluster, Endpoint, NamedPort, Node, network
from tortie.policy.cluster import NetworkSet as Set
from tortie.policy.convert import (
    DEFAULT_ALLOW,
    Policy,
    Problem,
    convert,
    network_set,
    profile_name,
    profile_of_namespace,
    profile_of_service_account,
    service_set,
)

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The API server puts it on every namespace."""

Record = TypeVar("Record", bound=Object)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of one of the objects."""

    kind: str
    key: str
    """`namespace/name`, or `name`."""
    problem: Problem


def records(documents: Iterable[Mapping[str, Any]]) -> Iterator[Object]:
    """The objects among documents as YAML or JSON has them; lists are unpacked, kinds that are not ours left out.

    Raises msgspec.ValidationError, with the object in its message.
    """
    for document in documents:
        if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
            kind = str(document["kind"]).removesuffix("List")
            defaults = {"apiVersion": document.get("apiVersion"), "kind": kind} if kind else {}
            yield from records({**defaults, **item} for item in document["items"])
            continue
        record = KINDS.get((document.get("apiVersion", ""), document.get("kind", "")))
        if record is not None:
            try:
                yield msgspec.convert(_without_nulls(document), record)
            except msgspec.ValidationError as error:
                name = (document.get("metadata") or {}).get("name", "")
                raise msgspec.ValidationError(f"{document['kind']} {name}: {error}") from None


def _without_nulls(node: Any) -> Any:
    """To the API server a null is a field that is not there."""
    if isinstance(node, Mapping):
        return {key: _without_nulls(value) for key, value in node.items() if value is not None}
    return [_without_nulls(each) for each in node] if isinstance(node, list) else node


def build(objects: Iterable[Object]) -> tuple[Cluster, list[Finding]]:
    """Of objects with the same kind and name the last counts."""
    return _Builder({(type(each), _key(each)): each for each in objects}).cluster()


def _key(each: Any) -> str:
    return str(each.metadata.key)


@dataclass(slots=True)
class _Builder:
    objects: Mapping[tuple[type[Object], str], Object]
    findings: list[Finding] = field(default_factory=list)
    profiles: dict[str, CompiledPolicySpec] = field(default_factory=dict)

    def all(self, record: type[Record]) -> list[Record]:
        return [each for each in self.objects.values() if isinstance(each, record)]

    def note(self, user: Any, problems: Iterable[Problem]) -> None:
        self.findings.extend(Finding(user.kind, _key(user), problem) for problem in problems)

    def cluster(self) -> tuple[Cluster, list[Finding]]:
        self.profiles = self.compiled_profiles()
        pods = [pod for pod in self.all(Pod) if not pod.ended]
        cluster = Cluster(
            endpoints=(
                *(self.pod(pod) for pod in pods if not pod.spec.host_network),
                *map(self.workload, self.all(WorkloadEndpoint)),
                *map(self.host, self.all(HostEndpoint)),
            ),
            sets=tuple(self.sets()),
            services=self.services(),
            tiers={**BUILT_IN, **{tier.metadata.name: _tier(tier) for tier in self.all(Tier)}},
            policies=tuple(self.policies()),
            profiles=self.profiles,
            nodes={node.metadata.name: self.node(node) for node in self.all(KubernetesNode)},
            configurations=tuple(self.all(FelixConfiguration)),
            host_networked={pod.metadata.key: pod.spec.node_name for pod in pods if pod.spec.host_network},
        )
        return cluster, self.findings

    def compiled_profiles(self) -> dict[str, CompiledPolicySpec]:
        """A pod's namespace and service account exist, whether or not they are among the files."""
        names = {each.metadata.namespace for each in self.all(Pod)}
        names |= {each.metadata.namespace for each in self.all(ServiceAccount)}
        namespaces = {name: Namespace(metadata=Metadata(name=name)) for name in sorted(names)}
        namespaces |= {each.metadata.name: each for each in self.all(Namespace)}
        accounts = {
            key: ServiceAccount(metadata=Metadata(namespace=key[0], name=key[1]))
            for key in sorted({(pod.metadata.namespace, _account(pod)) for pod in self.all(Pod)})
        }
        accounts |= {(each.metadata.namespace, each.metadata.name): each for each in self.all(ServiceAccount)}
        specs = [DEFAULT_ALLOW]
        specs += [profile_of_namespace(_named(each)) for each in namespaces.values()]
        specs += [profile_of_service_account(each) for each in accounts.values()]
        for profile in self.all(Profile):
            conversion = convert(profile)
            self.note(profile, (*conversion.errors, *conversion.ignored))
            specs.append(conversion.spec)
        return {profile_name(spec.source): spec for spec in specs}

    def inherited(self, profiles: Iterable[str]) -> dict[str, str]:
        """Labels of the profiles; of two with the same key the later one's."""
        found: dict[str, str] = {}
        for name in profiles:
            if name in self.profiles:
                found |= self.profiles[name].labels
        return found

    def pod(self, pod: Pod) -> Endpoint:
        metadata, account = pod.metadata, _account(pod)
        profiles = (f"kns.{metadata.namespace}", f"ksa.{metadata.namespace}.{account}")
        inherited = self.inherited(profiles)
        return Endpoint(
            name=metadata.key,
            node=pod.spec.node_name,
            labels=labels.of_pod(metadata.labels, metadata.namespace, account, inherited),
            addresses=self.addresses(pod, "status.podIPs", (each.ip for each in pod.status.pod_ips)),
            ports=self.ports(
                pod, "spec.containers", ((port.name, port.protocol, port.container_port) for port in pod.named_ports)
            ),
            profiles=profiles,
        )

    def workload(self, user: WorkloadEndpoint) -> Endpoint:
        spec, metadata = user.spec, user.metadata
        name = spec.pod or spec.workload or metadata.name
        return Endpoint(
            name=f"{metadata.namespace}/{name}" if metadata.namespace else name,
            node=spec.node,
            labels=labels.of_workload(metadata.labels, self.inherited(spec.profiles)),
            addresses=self.addresses(user, "spec.ipNetworks", spec.ip_networks),
            ports=self.ports(user, "spec.ports", ((p.name, p.protocol, p.port) for p in spec.ports if p.name)),
            profiles=spec.profiles,
        )

    def host(self, user: HostEndpoint) -> Endpoint:
        spec, metadata = user.spec, user.metadata
        return Endpoint(
            name=metadata.name,
            node=spec.node,
            labels=labels.of_host(metadata.labels, self.inherited(spec.profiles)),
            addresses=self.addresses(user, "spec.expectedIPs", spec.expected_ips),
            ports=self.ports(user, "spec.ports", ((p.name, p.protocol, p.port) for p in spec.ports)),
            profiles=spec.profiles,
            interface=spec.interface_name,
        )

    def sets(self) -> Iterator[Set]:
        users: list[NetworkSet | GlobalNetworkSet] = [*self.all(NetworkSet), *self.all(GlobalNetworkSet)]
        for user in users:
            spec, problems = network_set(user)
            self.note(user, problems)
            namespace = user.metadata.namespace
            inherited = self.inherited([f"kns.{namespace}"]) if namespace else {}
            yield Set(
                name=user.metadata.key,
                labels=labels.of_network_set(spec.labels, namespace, inherited),
                nets=tuple(map(network, spec.nets)),
            )

    def services(self) -> dict[str, Any]:
        slices: dict[tuple[str, str], list[EndpointSlice]] = {}
        for each in self.all(EndpointSlice):
            name = each.metadata.labels.get(SERVICE_LABEL)
            if name:
                slices.setdefault((each.metadata.namespace, name), []).append(each)
        return {f"{ns}/{name}": service_set(ns, name, found).backends for (ns, name), found in slices.items()}

    def node(self, node: KubernetesNode) -> Node:
        """InternalIPs first: what the node sends has one of them."""
        others = (each.address for each in node.status.addresses if each.type == "ExternalIP")
        addresses = self.addresses(node, "status.addresses", (*node.internal_ips, *others))
        return Node(node.metadata.name, addresses, node.metadata.labels)

    def addresses(self, user: Object, path: str, texts: Iterable[str]) -> tuple[Address, ...]:
        """Of addresses and /32 or /128 networks. What is no address is a finding, and nobody's."""
        found: list[Address] = []
        for text in texts:
            try:
                found.append(ipaddress.ip_address(text.partition("/")[0]))
            except ValueError:
                self.note(user, [Problem(path, text, "is no IP address")])
        return tuple(found)

    def ports(self, user: Object, path: str, ports: Iterable[tuple[str, int | str, int]]) -> tuple[NamedPort, ...]:
        found = []
        for name, protocol, port in ports:
            try:
                found.append(NamedPort(name, protocols.protocol_number(protocol), port))
            except ValueError as error:
                self.note(user, [Problem(path, str(protocol), str(error))])
        return tuple(found)

    def policies(self) -> Iterator[CompiledPolicySpec]:
        for user in self.all(Object):
            if isinstance(user, Policy):
                conversion = convert(user)
                self.note(user, (*conversion.errors, *conversion.ignored))
                yield conversion.spec


BUILT_IN = {
    name: CompiledTierSpec(order=spec.order, default_action=spec.default_action)
    for name, spec in BUILT_IN_TIERS.items()
}


def _tier(tier: Tier) -> CompiledTierSpec:
    return CompiledTierSpec(order=tier.spec.order, default_action=tier.spec.default_action)


def _named(namespace: Namespace) -> Namespace:
    metadata = namespace.metadata
    metadata = msgspec.structs.replace(metadata, labels={NAMESPACE_NAME: metadata.name, **metadata.labels})
    return msgspec.structs.replace(namespace, metadata=metadata)


def _account(pod: Pod) -> str:
    return pod.spec.service_account_name or "default"
