"""What the operator knows of the cluster: records, indexes, and what a change of them touches. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from tortie.api import networking, policies, sets
from tortie.api.calico import (
    BlockAffinity,
    IPAMBlock,
    IPAMConfiguration,
    IPAMConfigurationSpec,
    IPPool,
    IPReservation,
)
from tortie.api.compiled import CompiledNetworkSet, CompiledPolicy, CompiledTier
from tortie.api.endpoints import HostEndpoint
from tortie.api.felix import FelixConfiguration
from tortie.api.internal import Endpoint, NodePeer, NodeState, PolicyStatus
from tortie.api.kubernetes import Namespace, Node, Pod, ServiceAccount
from tortie.api.services import EndpointSlice
from tortie.operator.compile.naming import keys_named, services_named
from tortie.operator.compile.peers import networked
from tortie.operator.ipam.pools import merged, overlapped
from tortie.operator.keys import compiled_source, service_of, source_key
from tortie.operator.shelf import Shelf

Output = Literal["set", "tier", "policy", "status", "peer", "state", "blocks", "report", "room"]
"""`policy`, `status` and `set`: a CompiledPolicy, PolicyStatus or CompiledNetworkSet, by `source_key`. `tier`: a
CompiledTier, by name. By node: `peer` and `state` are its NodePeer and NodeState, `blocks` what it claims and gives
back, `report` what its agent says. `room`: a block is free again."""


class Dirty(NamedTuple):
    """Something that may have to be published anew."""

    output: Output
    key: str


POLICIES: dict[str, type[Any]] = {
    "knp": networking.NetworkPolicy,
    "cnp": networking.ClusterNetworkPolicy,
    "np": policies.NetworkPolicy,
    "gnp": policies.GlobalNetworkPolicy,
    "snp": policies.StagedNetworkPolicy,
    "sgnp": policies.StagedGlobalNetworkPolicy,
    "sknp": policies.StagedKubernetesNetworkPolicy,
}
"""Kinds of users' policies, by what their compiled names begin with."""

KINDS: dict[str, type[Any]] = {
    **POLICIES,
    "tiers": policies.Tier,
    "hostendpoints": HostEndpoint,
    "ns": sets.NetworkSet,
    "gns": sets.GlobalNetworkSet,
    "endpointslices": EndpointSlice,
    "pods": Pod,
    "nodes": Node,
    "namespaces": Namespace,
    "serviceaccounts": ServiceAccount,
    "ippools": IPPool,
    "ipreservations": IPReservation,
    "ipamconfigurations": IPAMConfiguration,
    "felixconfigurations": FelixConfiguration,
    "blockaffinities": BlockAffinity,
    "ipamblocks": IPAMBlock,
    "nodepeers": NodePeer,
    "nodestates": NodeState,
    "compiledtiers": CompiledTier,
    "compiledpolicies": CompiledPolicy,
    "compilednetworksets": CompiledNetworkSet,
    "policystatuses": PolicyStatus,
}
"""What the world calls a kind (mostly its plural) → record."""


class World:
    """One shelf a kind, and indexes over them."""

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf[Any]] = {kind: Shelf() for kind in KINDS}
        self.pods: Shelf[Pod] = self.shelves["pods"]
        self.nodes: Shelf[Node] = self.shelves["nodes"]
        self.namespaces: Shelf[Namespace] = self.shelves["namespaces"]
        self.service_accounts: Shelf[ServiceAccount] = self.shelves["serviceaccounts"]
        self.tiers: Shelf[policies.Tier] = self.shelves["tiers"]
        self.hosts: Shelf[HostEndpoint] = self.shelves["hostendpoints"]
        self.pools: Shelf[IPPool] = self.shelves["ippools"]
        self.reservations: Shelf[IPReservation] = self.shelves["ipreservations"]
        self.ipam_configurations: Shelf[IPAMConfiguration] = self.shelves["ipamconfigurations"]
        self.felix: Shelf[FelixConfiguration] = self.shelves["felixconfigurations"]
        self.affinities: Shelf[BlockAffinity] = self.shelves["blockaffinities"]
        self.blocks: Shelf[IPAMBlock] = self.shelves["ipamblocks"]
        self.peers: Shelf[NodePeer] = self.shelves["nodepeers"]
        self.states: Shelf[NodeState] = self.shelves["nodestates"]
        self.compiled_tiers: Shelf[CompiledTier] = self.shelves["compiledtiers"]
        self.policies: Shelf[CompiledPolicy] = self.shelves["compiledpolicies"]
        self.compiled_sets: Shelf[CompiledNetworkSet] = self.shelves["compilednetworksets"]
        self.statuses: Shelf[PolicyStatus] = self.shelves["policystatuses"]
        self.policy_gone: dict[str, int] = {}
        """Name of a CompiledPolicy → resourceVersion of its deletion, for as long as someone has to wait for it."""
        self._pods_of: dict[str, dict[str, Pod]] = {}
        self._pods_in: dict[str, dict[str, Pod]] = {}
        self._affinities_of: dict[str, dict[str, BlockAffinity]] = {}
        self._blocks_of: dict[str, dict[str, IPAMBlock]] = {}
        self._slices_of: dict[str, dict[str, EndpointSlice]] = {}
        self._compiled_of: dict[str, dict[str, CompiledNetworkSet]] = {}
        self._references: Counter[str] = Counter()
        """How many published NodePeers speak of a profile, and published policies of a service, by source key."""
        self._keys: Counter[str] = Counter()
        """How many published policies name a label key that NodePeers leave out by default."""
        self.overlapped: dict[str, str] = {}
        """Name of each IPPool that overlaps an older one → the older one's."""
        self.reserved: tuple[str, ...] = ()
        """Reserved networks, merged: a block is reserved as a whole if and only if it lies in one of them."""
        self._departed: dict[str, set[str]] = {}
        """By node: UIDs of pods that were seen and are gone, for as long as its NodePeer may have entries of them."""

    # --- news -----------------------------------------------------------------------------------------------------

    def put(self, kind: str, obj: Any, *, told: bool = False) -> set[Dirty]:
        """A version of an object; returns what it touches, nothing if it is no news. `told`: a watch says so."""
        shelf = self.shelves[kind]
        before = shelf.get(obj.metadata.key)
        return self._changed(kind, before, obj) if shelf.put(obj, told=told) else set()

    def gone(self, kind: str, key: str, version: int) -> set[Dirty]:
        """An object is deleted, says a watch."""
        if kind == "compiledpolicies" and key in self.statuses:
            self.policy_gone[key] = version
        shelf = self.shelves[kind]
        before = shelf.get(key)
        return self._changed(kind, before, None) if shelf.gone(key, version) else set()

    def remove(self, kind: str, obj: Any) -> set[Dirty]:
        """An object is gone as we knew it: we deleted it, or the API server says so when asked. None: we knew none."""
        shelf = self.shelves[kind]
        before = shelf.get(obj.metadata.key) if obj is not None else None
        return self._changed(kind, before, None) if obj is not None and shelf.remove(obj) else set()

    def replace(self, kind: str, objects: Mapping[str, Any], version: int) -> set[Dirty]:
        """All objects of a kind."""
        shelf = self.shelves[kind]
        before = {obj.metadata.key: obj for obj in shelf}
        dirty: set[Dirty] = set()
        for key in shelf.replace(objects, version):
            dirty |= self._changed(kind, before.get(key), shelf.get(key))
        return dirty

    def _changed(self, kind: str, before: Any, after: Any) -> set[Dirty]:
        if before is None and after is None:
            return set()
        match kind:
            case "pods":
                reindex(self._pods_of, before, after, lambda pod: pod.spec.node_name)
                reindex(self._pods_in, before, after, lambda pod: pod.metadata.namespace)
                if before is not None and (after is None or after.metadata.uid != before.metadata.uid):
                    self.depart(before.spec.node_name, before.metadata.uid)
            case "blockaffinities":
                reindex(self._affinities_of, before, after, lambda affinity: affinity.spec.node)
            case "ipamblocks":
                reindex(self._blocks_of, before, after, block_owner)
            case "ippools":
                self.overlapped = overlapped(self.pools)
            case "ipreservations":
                self.reserved = merged(cidr for each in self.reservations for cidr in each.spec.reserved_cidrs)
            case "endpointslices":
                reindex(self._slices_of, before, after, service_of)
            case "compilednetworksets":
                reindex(self._compiled_of, before, after, compiled_source)
            case "compiledpolicies":
                for sign, policy in ((-1, before), (+1, after)):
                    count(self._references, services_named(policy.spec) if policy else (), sign)
                    count(self._keys, keys_named(policy.spec) if policy else (), sign)
            case "nodepeers":
                count(self._references, profiles(before), -1)
                count(self._references, profiles(after), +1)
                self._forget_departed(after if after is not None else before, after)
        return set(self._touched(kind, before, after))

    def _touched(self, kind: str, before: Any, after: Any) -> Iterator[Dirty]:
        present = [obj for obj in (before, after) if obj is not None]
        name = present[0].metadata.name
        match kind:
            case "pods":
                yield from (Dirty("peer", pod.spec.node_name) for pod in present if pod.spec.node_name)
            case "nodes" if node_facts(before) != node_facts(after):
                yield from (Dirty("peer", name), Dirty("state", name), Dirty("blocks", name), Dirty("report", name))
            case "nodes" if conditions(before) != conditions(after):
                yield Dirty("report", name)
            case "namespaces":
                yield Dirty("policy", source_key("kns", name))
                if any(pool.spec.namespace_selector for pool in self.pools):
                    yield from (Dirty("peer", node) for node in self._nodes_of(name))
            case "serviceaccounts":
                yield Dirty("policy", source_key("ksa", name, present[0].metadata.namespace))
            case "ippools" | "ipreservations" | "ipamconfigurations" if pool_facts(before) != pool_facts(after):
                for node in self.nodes:
                    key = node.metadata.name
                    yield from (Dirty("peer", key), Dirty("state", key), Dirty("blocks", key))
            case "felixconfigurations":
                yield from (Dirty("state", node.metadata.name) for node in self.nodes)
            case "blockaffinities":
                nodes = {affinity.spec.node for affinity in present}
                yield from (Dirty(output, node) for node in nodes for output in OUTPUTS_OF_BLOCKS)
                if after is None:
                    yield Dirty("room", "")
            case "ipamblocks":
                owners = {block_owner(block) for block in present} - {""}
                yield from (Dirty(output, owner) for owner in owners for output in OUTPUTS_OF_BLOCKS)
            case "nodepeers":
                yield from (Dirty("peer", name), Dirty("blocks", name))
                if self.releasing(name):
                    yield Dirty("state", name)
                yield from (Dirty("policy", key) for key in profiles(before) - profiles(after))
            case "nodestates":
                yield from (Dirty("state", name), Dirty("report", name), Dirty("blocks", name))
            case "endpointslices":
                yield from (Dirty("set", service_of(obj)) for obj in present)
            case "hostendpoints":
                for policy in POLICIES:
                    for obj in self.shelves[policy]:
                        yield Dirty("status", source_key(policy, obj.metadata.name, obj.metadata.namespace))
            case "tiers" | "compiledtiers":
                yield Dirty("tier", name)
            case "ns" | "gns":
                yield Dirty("set", source_key(kind, name, present[0].metadata.namespace))
            case "compiledpolicies":
                source = present[0].spec.source
                yield Dirty("policy", compiled_source(present[0]))
                if before is None and source.kind in ("kns", "ksa"):  # pods wait for their profiles
                    yield from (Dirty("peer", node) for node in self._nodes_of(source.namespace or source.name))
                if before is not None:
                    yield from (Dirty("set", service) for service in services_named(before.spec))
                    if keys_named(before.spec):
                        yield from (Dirty("peer", node.metadata.name) for node in self.nodes)
            case "compilednetworksets":
                yield Dirty("set", compiled_source(present[0]))
            case "policystatuses":
                yield Dirty("status", compiled_source(present[0]))
            case _ if kind in POLICIES and meaning(before) != meaning(after):
                yield Dirty("policy", source_key(kind, name, present[0].metadata.namespace))

    def _nodes_of(self, namespace: str) -> set[str]:
        """Nodes with pods of a namespace."""
        return {pod.spec.node_name for pod in self._pods_in.get(namespace, {}).values()} - {""}

    def depart(self, node: str, uid: str) -> None:
        """A pod is known to be gone: its entry, if it has one, may go."""
        if node:
            self._departed.setdefault(node, set()).add(uid)

    def _forget_departed(self, peer: NodePeer, after: NodePeer | None) -> None:
        departed = self._departed.pop(peer.metadata.name, set())
        departed &= {endpoint.uid for endpoint in after.spec.endpoints} if after is not None else set()
        if departed:
            self._departed[peer.metadata.name] = departed

    # --- views ----------------------------------------------------------------------------------------------------

    def pods_of(self, node: str) -> list[Pod]:
        """Workload endpoints on a node, the oldest first."""
        pods = [pod for pod in self._pods_of.get(node, {}).values() if networked(pod)]
        return sorted(pods, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.key))

    def unaccounted(self, node: str) -> list[Endpoint]:
        """Entries of a node's NodePeer whose pods were never seen there: news of them is on its way, or was missed."""
        peer, departed = self.peers.get(node), self._departed.get(node, ())
        there = {pod.metadata.uid for pod in self._pods_of.get(node, {}).values()}
        endpoints = peer.spec.endpoints if peer else ()
        return [endpoint for endpoint in endpoints if endpoint.uid not in there and endpoint.uid not in departed]

    def slices_of(self, service: str) -> list[EndpointSlice]:
        """EndpointSlices of a service, by its source key."""
        return list(self._slices_of.get(service, {}).values())

    def compiled_of(self, key: str) -> dict[str, CompiledNetworkSet]:
        """Published parts of a set, by name."""
        return dict(self._compiled_of.get(key, {}))

    def affinities_of(self, node: str) -> list[BlockAffinity]:
        """Calico's own for load balancers (`type: virtual`) are not a node's."""
        found = self._affinities_of.get(node, {}).values()
        ours = (a for a in found if not a.spec.deleted and a.spec.type in ("host", ""))
        return sorted(ours, key=lambda affinity: affinity.spec.cidr)

    def blocks_of(self, node: str) -> list[IPAMBlock]:
        """Blocks whose objects name the node as their owner."""
        return sorted(self._blocks_of.get(node, {}).values(), key=lambda block: block.spec.cidr)

    def releasing(self, node: str) -> list[str]:
        """CIDRs of the blocks that a node gives back."""
        return [a.spec.cidr for a in self.affinities_of(node) if a.spec.state == "pendingDeletion"]

    def spoken_of(self, key: str) -> bool:
        """Whether a published NodePeer speaks of a profile, or a published policy of a service: it must not be
        deleted yet (rule 6)."""
        return self._references[key] > 0

    @property
    def keys_named(self) -> frozenset[str]:
        """Label keys that NodePeers leave out by default, and that some published policy names."""
        return frozenset(key for key, count in self._keys.items() if count > 0)

    @property
    def ipam(self) -> IPAMConfigurationSpec:
        configured = self.ipam_configurations.get("default")
        return configured.spec if configured else IPAMConfigurationSpec()

    @property
    def giving_pools(self) -> list[IPPool]:
        """Pools but for those that overlap others."""
        return [pool for pool in self.pools if pool.metadata.name not in self.overlapped]


def meaning(policy: Any) -> object:
    """What of a policy anything depends on: not its status, which is ours."""
    return policy and (policy.metadata.uid, policy.metadata.generation, policy.spec)


def profiles(peer: NodePeer | None) -> set[str]:
    """Source keys of the profiles that a NodePeer's label sets speak of."""
    sets = peer.spec.label_sets if peer else ()
    return {source_key("kns", labels.namespace) for labels in sets} | {
        source_key("ksa", labels.service_account, labels.namespace) for labels in sets
    }


OUTPUTS_OF_BLOCKS: tuple[Output, ...] = ("peer", "state", "blocks")


def reindex(index: dict[str, dict[str, Any]], before: Any, after: Any, of: Callable[[Any], str]) -> None:
    """Move an object to the place that `of` says."""
    if before is not None:
        place = index.get(of(before))
        if place is not None:
            place.pop(before.metadata.key, None)
            if not place:
                del index[of(before)]
    if after is not None:
        index.setdefault(of(after), {})[after.metadata.key] = after


def node_facts(node: Node | None) -> object:
    """What of a Node anything depends on: not the condition that its kubelet renews."""
    return node and (node.metadata.uid, node.metadata.labels, node.internal_ips)


def heard_of(node: Node | None) -> bool:
    """Whether a node's kubelet is heard of: an agent on a node that is cut off reports nothing either."""
    conditions = node.status.conditions if node is not None else ()
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def conditions(node: Node | None) -> object:
    """What of a Node's conditions anything depends on: whether it is heard of, and what it says of its network, which
    is ours to say."""
    told = node.status.conditions if node is not None else ()
    network = [(c.status, c.reason, c.message) for c in told if c.type == "NetworkUnavailable"]
    return heard_of(node), network


def pool_facts(obj: IPPool | IPReservation | IPAMConfiguration | None) -> object:
    """What of a pool and the like anything depends on: not the status, which is ours."""
    return obj and (obj.spec, bool(obj.metadata.deletion_timestamp))


def count(counter: Counter[str], keys: Iterable[str], by: int) -> None:
    """Keeps no zeros: namespaces come and go for years."""
    for key in keys:
        counter[key] += by
        if not counter[key]:
            del counter[key]


def block_owner(block: IPAMBlock) -> str:
    """The node that a block is affine to, empty for none."""
    kind, _, name = block.spec.affinity.partition(":")
    return name if kind == "host" else ""
