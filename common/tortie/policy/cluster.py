"""A cluster as policy sees it: what the reference evaluator judges on. `build` makes one from users' objects."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from tortie.api.compiled import Backends, CompiledPolicySpec, CompiledTierSpec
from tortie.api.felix import FailsafePort, FelixConfiguration, failsafes, resolve
from tortie.api.internal import Settings
from tortie.api.selector import parse

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

network: Callable[[str], Network] = lru_cache(maxsize=None)(ipaddress.ip_network)
selector = lru_cache(maxsize=None)(parse)

EVERY_INTERFACE = "*"

WORKLOAD, NORMAL, FORWARD, PRE_DNAT, UNTRACKED = "workload", "normal", "forward", "preDNAT", "untracked"
"""Places where policy applies: at a workload, and four at a host endpoint."""


@dataclass(frozen=True, slots=True)
class NamedPort:
    name: str
    protocol: int
    port: int


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A workload or a host endpoint."""

    name: str
    """`namespace/name` of a workload, name of a host endpoint."""
    node: str
    labels: Mapping[str, str]
    """Effective."""
    addresses: tuple[Address, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    profiles: tuple[str, ...] = ()
    interface: str | None = None
    """Of a host endpoint: a name, `*`, or empty if the expected addresses say which; None: a workload."""

    @property
    def is_host(self) -> bool:
        return self.interface is not None


@dataclass(frozen=True, eq=False)
class NetworkSet:
    name: str
    labels: Mapping[str, str]
    """Effective."""
    nets: tuple[Network, ...]
    ports: tuple[NamedPort, ...] = ()
    """Sets have none; an owner of addresses has."""


Owner = Endpoint | NetworkSet
Tiers = list[list[CompiledPolicySpec]]
"""Policies by tier, both in order."""


@dataclass(frozen=True, eq=False)
class Party:
    """One end of a packet: an address, and who has it. It remembers what was asked about it."""

    address: Address
    owners: tuple[Owner, ...]
    """Every endpoint and network set that has the address."""
    _matching: dict[str, tuple[Owner, ...]] = field(default_factory=dict, repr=False)
    _within: dict[str, bool] = field(default_factory=dict, repr=False)

    def matching(self, text: str) -> tuple[Owner, ...]:
        """The owners that a selector selects."""
        if text not in self._matching:
            parsed = selector(text)
            self._matching[text] = tuple(owner for owner in self.owners if parsed.matches(owner.labels))
        return self._matching[text]

    def within(self, net: str) -> bool:
        if net not in self._within:
            self._within[net] = self.address in network(net)
        return self._within[net]


@dataclass(frozen=True)
class Node:
    name: str
    addresses: tuple[Address, ...] = ()
    """The first of each family is the one that it sends from."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cluster:
    """Immutable, but it remembers what it has looked up."""

    endpoints: tuple[Endpoint, ...] = ()
    sets: tuple[NetworkSet, ...] = ()
    services: Mapping[str, tuple[Backends, ...]] = field(default_factory=dict)
    """By `namespace/name`."""
    tiers: Mapping[str, CompiledTierSpec] = field(default_factory=dict)
    policies: tuple[CompiledPolicySpec, ...] = ()
    profiles: Mapping[str, CompiledPolicySpec] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    configurations: tuple[FelixConfiguration, ...] = ()
    host_networked: Mapping[str, str] = field(default_factory=dict)
    """`namespace/name` of pods that are no endpoints, because their traffic is their node's → the node."""

    _parties: dict[Address, Party] = field(default_factory=dict, repr=False)
    _applicable: dict[tuple[Endpoint, str, str], list[list[CompiledPolicySpec]]] = field(
        default_factory=dict, repr=False
    )
    _settings: dict[str, Settings] = field(default_factory=dict, repr=False)

    @cached_property
    def workloads(self) -> Mapping[str, Endpoint]:
        return {endpoint.name: endpoint for endpoint in self.endpoints if not endpoint.is_host}

    @cached_property
    def hosts(self) -> Mapping[str, tuple[Endpoint, ...]]:
        """Node → its host endpoints by name."""
        found: dict[str, list[Endpoint]] = {}
        for endpoint in sorted(self.endpoints, key=lambda e: e.name):
            if endpoint.is_host:
                found.setdefault(endpoint.node, []).append(endpoint)
        return {node: tuple(endpoints) for node, endpoints in found.items()}

    @cached_property
    def _endpoints_by_address(self) -> Mapping[Address, list[Endpoint]]:
        found: dict[Address, list[Endpoint]] = {}
        for endpoint in self.endpoints:
            for address in endpoint.addresses:
                found.setdefault(address, []).append(endpoint)
        return found

    def party(self, address: Address) -> Party:
        if address not in self._parties:
            sets = (each for each in self.sets if any(address in net for net in each.nets))
            self._parties[address] = Party(address, (*self._endpoints_by_address.get(address, ()), *sets))
        return self._parties[address]

    @cached_property
    def tiers_in_order(self) -> Tiers:
        """Policies by tier, both in order; tiers that do not exist last, policies of equal order by
        `name/namespace/kind` (felix/calc/policy_sorter.go). Staged ones are left out: they are never enforced."""
        by_tier: dict[str, list[CompiledPolicySpec]] = {}
        for policy in self.policies:
            if not policy.staged:
                by_tier.setdefault(policy.tier, []).append(policy)
        for policies in by_tier.values():
            policies.sort(key=policy_order)
        return [by_tier[name] for name in sorted(by_tier, key=lambda name: tier_order(name, self.tiers.get(name)))]

    def applicable(self, endpoint: Endpoint, direction: str, hook: str) -> Tiers:
        """By tier, the policies that select an endpoint, govern a direction and apply at a hook; no empty lists."""
        key = endpoint, direction, hook
        if key not in self._applicable:
            tiers = [
                [p for p in policies if direction in p.types and applies_at(p, hook) and _selects(p, endpoint)]
                for policies in self.tiers_in_order
            ]
            self._applicable[key] = [policies for policies in tiers if policies]
        return self._applicable[key]

    def settings(self, node: str) -> Settings:
        if node not in self._settings:
            self._settings[node] = resolve(self.configurations, node, self._labels(node))[0]
        return self._settings[node]

    def failsafes(self, node: str) -> tuple[tuple[FailsafePort, ...], tuple[FailsafePort, ...]]:
        """Ports inbound and outbound."""
        inbound, outbound, _ = failsafes(self.configurations, node, self._labels(node))
        return inbound, outbound

    def _labels(self, node: str) -> Mapping[str, str]:
        return self.nodes[node].labels if node in self.nodes else {}


def tier_order(name: str, tier: CompiledTierSpec | None) -> tuple[bool, float, str]:
    if tier is None:
        return True, float("inf"), name
    return False, float("inf") if tier.order is None else tier.order, name


KIND_NAMES = {
    "np": "NetworkPolicy",
    "gnp": "GlobalNetworkPolicy",
    "knp": "KubernetesNetworkPolicy",
    "cnp": "KubernetesClusterNetworkPolicy",
    "snp": "StagedNetworkPolicy",
    "sgnp": "StagedGlobalNetworkPolicy",
    "sknp": "StagedKubernetesNetworkPolicy",
}
"""Names that Calico sorts by, and by which people see a policy's kind: Calico's NetworkPolicy and Kubernetes' may have
the same name in the same namespace."""


def policy_order(policy: CompiledPolicySpec) -> tuple[float, str]:
    source = policy.source
    order = float("inf") if policy.order is None else policy.order
    return order, f"{source.name}/{source.namespace}/{KIND_NAMES[source.kind]}"


def applies_at(policy: CompiledPolicySpec, hook: str) -> bool:
    if hook == UNTRACKED:
        return policy.do_not_track
    if hook == PRE_DNAT:
        return policy.pre_dnat
    if policy.do_not_track or policy.pre_dnat:
        return False
    return policy.apply_on_forward if hook == FORWARD else True


def _selects(policy: CompiledPolicySpec, endpoint: Endpoint) -> bool:
    return selector(policy.selector).matches(endpoint.labels)
