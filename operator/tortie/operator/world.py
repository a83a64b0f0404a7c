"""What the operator knows of the cluster: records, indexes, and what a change of them touches. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from tortie.api.calico import (
    BlockAffinity,
    IPAMBlock,
    IPAMConfiguration,
    IPAMConfigurationSpec,
    IPPool,
    IPReservation,
)
from tortie.api.felix import FelixConfiguration
from tortie.api.internal import CompiledPolicy, NodePeer, NodeState
from tortie.api.kubernetes import Namespace, Node, Pod, ServiceAccount
from tortie.operator.compile.peers import networked
from tortie.operator.shelf import Shelf

Output = Literal["policy", "peer", "state", "blocks", "report"]
"""`policy`: a CompiledPolicy, by `source_key`. By node: `peer` and `state` are its NodePeer and NodeState, `blocks`
what it claims and gives back, `report` what its agent says."""


class Dirty(NamedTuple):
    """Something that may have to be published anew."""

    output: Output
    key: str


KINDS: dict[str, type[Any]] = {
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
    "compiledpolicies": CompiledPolicy,
}
"""Plural → record."""


class World:
    """One shelf a kind, and pods by node."""

    def __init__(self) -> None:
        self.pods: Shelf[Pod] = Shelf()
        self.nodes: Shelf[Node] = Shelf()
        self.namespaces: Shelf[Namespace] = Shelf()
        self.service_accounts: Shelf[ServiceAccount] = Shelf()
        self.pools: Shelf[IPPool] = Shelf()
        self.reservations: Shelf[IPReservation] = Shelf()
        self.ipam_configurations: Shelf[IPAMConfiguration] = Shelf()
        self.felix: Shelf[FelixConfiguration] = Shelf()
        self.affinities: Shelf[BlockAffinity] = Shelf()
        self.blocks: Shelf[IPAMBlock] = Shelf()
        self.peers: Shelf[NodePeer] = Shelf()
        self.states: Shelf[NodeState] = Shelf()
        self.policies: Shelf[CompiledPolicy] = Shelf()
        self.shelves: dict[str, Shelf[Any]] = {
            "pods": self.pods,
            "nodes": self.nodes,
            "namespaces": self.namespaces,
            "serviceaccounts": self.service_accounts,
            "ippools": self.pools,
            "ipreservations": self.reservations,
            "ipamconfigurations": self.ipam_configurations,
            "felixconfigurations": self.felix,
            "blockaffinities": self.affinities,
            "ipamblocks": self.blocks,
            "nodepeers": self.peers,
            "nodestates": self.states,
            "compiledpolicies": self.policies,
        }
        self._pods_of: dict[str, dict[str, Pod]] = {}
        self._affinities_of: dict[str, dict[str, BlockAffinity]] = {}
        self._references: Counter[str] = Counter()
        """How many published NodePeers speak of a profile, by `source_key`."""

    # --- news -----------------------------------------------------------------------------------------------------

    def put(self, kind: str, obj: Any) -> set[Dirty]:
        """A version of an object; returns what it touches, nothing if it is no news."""
        shelf = self.shelves[kind]
        before = shelf.get(obj.metadata.key)
        return self._changed(kind, before, obj) if shelf.put(obj) else set()

    def gone(self, kind: str, key: str, version: int) -> set[Dirty]:
        """An object is deleted, says a watch."""
        shelf = self.shelves[kind]
        before = shelf.get(key)
        return self._changed(kind, before, None) if shelf.gone(key, version) else set()

    def remove(self, kind: str, key: str) -> set[Dirty]:
        """An object is deleted, by ourselves."""
        shelf = self.shelves[kind]
        before = shelf.get(key)
        shelf.remove(key)
        return self._changed(kind, before, None)

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
        if kind == "pods":
            reindex(self._pods_of, before, after, lambda pod: pod.spec.node_name)
        elif kind == "blockaffinities":
            reindex(self._affinities_of, before, after, lambda affinity: affinity.spec.node)
        elif kind == "nodepeers":
            self._references.subtract(profiles(before))
            self._references.update(profiles(after))
        return set(self._touched(kind, before, after))

    def _touched(self, kind: str, before: Any, after: Any) -> Iterator[Dirty]:
        present = [obj for obj in (before, after) if obj is not None]
        name = present[0].metadata.name
        match kind:
            case "pods":
                yield from (Dirty("peer", pod.spec.node_name) for pod in present if pod.spec.node_name)
            case "nodes" if node_facts(before) != node_facts(after):
                yield from (Dirty("peer", name), Dirty("state", name), Dirty("blocks", name), Dirty("report", name))
            case "namespaces":
                yield Dirty("policy", source_key("kns", name))
                if (before is None) != (after is None) or any(pool.spec.namespace_selector for pool in self.pools):
                    # Pods wait for their namespace to be known, and for a pool that serves it.
                    nodes = {pod.spec.node_name for pod in self.pods if pod.metadata.namespace == name}
                    yield from (Dirty("peer", node) for node in nodes - {""})
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
            case "ipamblocks":
                owners = {block_owner(block) for block in present} - {""}
                yield from (Dirty(output, owner) for owner in owners for output in OUTPUTS_OF_BLOCKS)
            case "nodepeers":
                yield from (Dirty("peer", name), Dirty("blocks", name))
                yield from (Dirty("policy", key) for key in profiles(before) - profiles(after))
            case "nodestates":
                yield from (Dirty("state", name), Dirty("report", name), Dirty("blocks", name))
            case "compiledpolicies":
                source = present[0].spec.source
                yield Dirty("policy", source_key(source.kind, source.name, source.namespace))

    # --- views ----------------------------------------------------------------------------------------------------

    def pods_of(self, node: str) -> list[Pod]:
        """Workload endpoints on a node, the oldest first."""
        pods = [pod for pod in self._pods_of.get(node, {}).values() if networked(pod)]
        return sorted(pods, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.key))

    def affinities_of(self, node: str) -> list[BlockAffinity]:
        found = self._affinities_of.get(node, {}).values()
        return sorted((a for a in found if not a.spec.deleted), key=lambda affinity: affinity.spec.cidr)

    def owned(self, node: str) -> list[str]:
        """CIDRs of the blocks that are a node's: claimed to the end, and not on their way back."""
        return [a.spec.cidr for a in self.affinities_of(node) if a.spec.state == "confirmed"]

    def releasing(self, node: str) -> list[str]:
        """CIDRs of the blocks that a node gives back."""
        return [a.spec.cidr for a in self.affinities_of(node) if a.spec.state == "pendingDeletion"]

    def spoken_of(self, key: str) -> bool:
        """Whether a published NodePeer speaks of the profile: it must not be deleted yet (rule 6)."""
        return self._references[key] > 0

    @property
    def ipam(self) -> IPAMConfigurationSpec:
        configured = self.ipam_configurations.get("default")
        return configured.spec if configured else IPAMConfigurationSpec()

    @property
    def reserved(self) -> tuple[str, ...]:
        return tuple(cidr for reservation in self.reservations for cidr in reservation.spec.reserved_cidrs)


def source_key(kind: str, name: str, namespace: str = "") -> str:
    """What a CompiledPolicy is made from: `kind/namespace/name`; kind as in its name (`kns`, `ksa` …)."""
    return f"{kind}/{namespace}/{name}"


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


def pool_facts(obj: IPPool | IPReservation | IPAMConfiguration | None) -> object:
    """What of a pool and the like anything depends on: not the status, which is ours."""
    return obj and (obj.spec, bool(obj.metadata.deletion_timestamp))


def block_owner(block: IPAMBlock) -> str:
    """The node that a block is affine to, empty for none."""
    kind, _, name = block.spec.affinity.partition(":")
    return name if kind == "host" else ""
