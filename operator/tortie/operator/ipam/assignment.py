"""Addresses of one node's pods and tunnels: what they keep, what they get, and what they lack.

Only what is published counts as given (NodePeer is the record), so this can be asked again at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tortie.api.calico import IPPool
from tortie.api.internal import NodePeerSpec, Tunnels
from tortie.api.kubernetes import Pod
from tortie.operator.ipam.candidates import BLOCKS_PER_HOST, ahead
from tortie.operator.ipam.pools import TUNNEL, WORKLOAD, for_namespace, giving, version, within
from tortie.operator.ipam.reuse import Reuse


@dataclass(frozen=True)
class Ground:
    """All that assignment on one node depends on."""

    node_labels: Mapping[str, str]
    pools: Sequence[IPPool]
    blocks: Mapping[str, Reuse]
    """The node's confirmed blocks by CIDR."""
    previous: NodePeerSpec
    """What is published."""
    namespaces: Mapping[str, Mapping[str, str]]
    """Labels by name."""
    exhausted: frozenset[str] = frozenset()
    """Names of pools in which no block is left for this node."""
    reserved: tuple[str, ...] = ()
    most_blocks: int = BLOCKS_PER_HOST
    claiming: bool = True
    """autoAllocateBlocks of IPAMConfiguration."""
    idle_since: float = float("inf")
    """An address released later than this (monotonic seconds) still cools down."""


@dataclass
class Assignment:
    addresses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By pod UID; IPv4 first."""
    errors: dict[str, str] = field(default_factory=dict)
    """By pod UID: why it gets none."""
    tunnels: Tunnels = field(default_factory=Tunnels)
    wants: dict[str, IPPool] = field(default_factory=dict)
    """Pools, by name, of which the node should claim a block. A pod that is in neither map above waits for it."""


class Assigner:
    """One computation. `used` grows as addresses are given; nothing outside of it is changed."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.used: set[str] = set()
        self.result = Assignment()
        self._kept = {endpoint.uid: endpoint.addresses for endpoint in ground.previous.endpoints}
        for addresses in self._kept.values():
            self.used.update(addresses)
        self.used.update({ground.previous.tunnels.vxlan4, ground.previous.tunnels.vxlan6} - {""})
        self._workload = giving(ground.pools, WORKLOAD, ground.node_labels)

    def run(self, pods: Sequence[Pod]) -> Assignment:
        self.result.tunnels = Tunnels(vxlan4=self._tunnel(4), vxlan6=self._tunnel(6))
        for pod in pods:
            self._pod(pod)
        for family in (4, 6):
            self._keep_ahead(family)
        return self.result

    def _pod(self, pod: Pod) -> None:
        uid, namespace = pod.metadata.uid, pod.metadata.namespace
        if kept := self._kept.get(uid):
            self.result.addresses[uid] = kept
            return
        pools = for_namespace(self._workload, namespace, self.ground.namespaces.get(namespace, {}))
        given: list[str] = []
        waiting = False
        for family in (4, 6):
            of_family = [pool for pool in pools if version(pool.spec.cidr) == family]
            if not of_family:
                continue
            address = self._own(pod, family) or self._next(of_family)
            if address:
                given.append(address)
                self.used.add(address)
            elif not self._want(of_family, family):
                self.result.errors[uid] = self._why(of_family, family)
                self.used.difference_update(given)
                return
            else:
                waiting = True
        if waiting:
            self.used.difference_update(given)
        elif given:
            self.result.addresses[uid] = tuple(given)
        else:
            self.result.errors[uid] = f"no IPPool gives addresses to pods of namespace {namespace} on this node"

    def _own(self, pod: Pod, family: int) -> str:
        """The address that the pod says it runs with, where nobody has it: its record was lost, not the pod."""
        for pod_ip in pod.status.pod_ips:
            address = pod_ip.ip
            if version(address) != family or address in self.used:
                continue
            if any(reuse.ordinal(address) is not None for reuse in self.ground.blocks.values()):
                return address
        return ""

    def _next(self, pools: Sequence[IPPool]) -> str:
        for pool in pools:
            for block, reuse in self.ground.blocks.items():
                if not within(block, pool.spec.cidr):
                    continue
                for address in reuse.available(self.ground.idle_since):
                    if address not in self.used and not any(within(address, cidr) for cidr in self.ground.reserved):
                        return address
        return ""

    def _want(self, pools: Sequence[IPPool], family: int) -> bool:
        """Ask for a block of the first pool that may still have one; False: there is none to be had."""
        count = sum(version(block) == family for block in self.ground.blocks)
        if not self.ground.claiming or count >= self.ground.most_blocks:
            return False
        pool = next((pool for pool in pools if pool.metadata.name not in self.ground.exhausted), None)
        if pool is None:
            return False
        self.result.wants[pool.metadata.name] = pool
        return True

    def _why(self, pools: Sequence[IPPool], family: int) -> str:
        names = ", ".join(f"{pool.metadata.name} ({pool.spec.cidr})" for pool in pools)
        count = sum(version(block) == family for block in self.ground.blocks)
        if count >= self.ground.most_blocks:
            return f"this node has {count} IPv{family} blocks, the most it may (maxBlocksPerHost), and all are full"
        if not self.ground.claiming:
            return (
                f"this node's IPv{family} blocks are full, and IPAMConfiguration default has autoAllocateBlocks: false"
            )
        return f"no free IPv{family} address: all blocks of {names} are taken"

    def _tunnel(self, family: int) -> str:
        """Address of the node's VXLAN device, if some pool of that family is encapsulated."""
        pools = [pool for pool in self.ground.pools if version(pool.spec.cidr) == family]
        if all(pool.spec.vxlan_mode == "Never" for pool in pools):
            return ""
        tunnels = self.ground.previous.tunnels
        if kept := tunnels.vxlan4 if family == 4 else tunnels.vxlan6:
            return kept
        givers = giving(pools, TUNNEL, self.ground.node_labels)
        if address := self._next(givers):
            self.used.add(address)
        elif givers:
            self._want(givers, family)
        return address

    def _keep_ahead(self, family: int) -> None:
        """Blocks are claimed before they are needed, so that a pod's start does not wait for it."""
        pools = [p for p in self._workload if version(p.spec.cidr) == family and not p.spec.namespace_selector]
        if not pools or any(pool.metadata.name in self.result.wants for pool in pools):
            return
        blocks = [b for b in self.ground.blocks if any(within(b, pool.spec.cidr) for pool in pools)]
        free = sum(len(self.ground.blocks[block]) for block in blocks)
        gone = sum(version(address) == family for address in self.used) - sum(
            version(address) == family for address in self._published()
        )
        if free - gone < ahead(pools[0]):
            self._want(pools, family)

    def _published(self) -> set[str]:
        tunnels = self.ground.previous.tunnels
        return {a for addresses in self._kept.values() for a in addresses} | ({tunnels.vxlan4, tunnels.vxlan6} - {""})
