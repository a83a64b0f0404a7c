"""Addresses of one node's pods and tunnels: what they keep, what they get, and what they lack.

Only what is published counts as given (NodePeer is the record), so this can be asked again at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tortie.api.calico import IPPool
from tortie.api.internal import NodePeerSpec, Tunnels
from tortie.api.kubernetes import Pod
from tortie.operator.ipam.candidates import BLOCKS_PER_HOST, ahead, surplus
from tortie.operator.ipam.pools import TUNNEL, WORKLOAD, for_namespace, giving, pool_of, version, within
from tortie.operator.ipam.reuse import Reuse


@dataclass(frozen=True)
class Ground:
    """All that assignment on one node depends on."""

    node_labels: Mapping[str, str]
    pools: Sequence[IPPool]
    blocks: Mapping[str, Reuse]
    """The blocks, by CIDR, that the node may take addresses from."""
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
    leaving: list[str] = field(default_factory=list)
    """Published blocks that the node does not need any more; nothing is assigned from them here."""
    lacking: bool = False
    """There was no block to be had for something that needs one, or that is kept ahead of need."""


class Assigner:
    """One computation. `used` grows as addresses are given; nothing outside of it is changed."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.result = Assignment()
        self.used: set[str] = set()
        self._kept = {e.uid: e.addresses for e in ground.previous.endpoints if e.addresses}
        for addresses in self._kept.values():
            self.used.update(addresses)
        self.used.update({ground.previous.tunnels.vxlan4, ground.previous.tunnels.vxlan6} - {""})
        self._refused = {e.uid: e.error for e in ground.previous.endpoints if e.error}
        self._given: Counter[str] = Counter()
        """How many addresses of a block were given in this computation."""
        self._running: set[str] = set()
        """Addresses that pods say they run with and that nobody has: their records were lost, not the pods."""
        self._workload = giving(ground.pools, WORKLOAD, ground.node_labels)
        self._tunnels = giving(ground.pools, TUNNEL, ground.node_labels)

    def run(self, pods: Sequence[Pod]) -> Assignment:
        fresh = [pod for pod in pods if pod.metadata.uid not in self._kept]
        self._running = {address for pod in fresh for address, _ in self._own(pod)}
        self.result.tunnels = Tunnels(vxlan4=self._tunnel(4), vxlan6=self._tunnel(6))
        for pod in pods:
            if kept := self._kept.get(pod.metadata.uid):
                self.result.addresses[pod.metadata.uid] = kept
            else:
                self._pod(pod)
        for family in (4, 6):
            self._keep_ahead(family)
        self._leave()
        return self.result

    def _pod(self, pod: Pod) -> None:
        uid, namespace = pod.metadata.uid, pod.metadata.namespace
        pools = for_namespace(self._workload, namespace, self.ground.namespaces.get(namespace, {}))
        own = {version(address): (address, block) for address, block in self._own(pod)}
        given: list[tuple[str, str]] = []
        waiting = False
        for family in (4, 6):
            of_family = [pool for pool in pools if version(pool.spec.cidr) == family]
            if found := own.get(family) or self._next(of_family):
                given.append(found)
            elif of_family and not self._want(of_family, family):
                self.result.errors[uid] = self._why(of_family, family)
                return
            elif of_family:
                waiting = True
        if waiting:
            if uid in self._refused:  # it is told so until there is something better to tell
                self.result.errors[uid] = self._refused[uid]
        elif given:
            self.result.addresses[uid] = tuple(self._take(*each) for each in given)
        else:
            self.result.errors[uid] = f"no IPPool gives addresses to pods of namespace {namespace} on this node"

    def _take(self, address: str, block: str) -> str:
        self.used.add(address)
        self._given[block] += 1
        return address

    def _own(self, pod: Pod) -> Iterator[tuple[str, str]]:
        """(address, block) that the pod says it runs with, where nobody has it."""
        for pod_ip in pod.status.pod_ips:
            for block, reuse in self.ground.blocks.items():
                ordinal = reuse.ordinal(pod_ip.ip)
                if ordinal is not None and (address := reuse.address(ordinal)) not in self.used:
                    yield address, block

    def _next(self, pools: Sequence[IPPool]) -> tuple[str, str] | None:
        """(address, block) that is free, the longest idle one of the first block that has any."""
        for pool in pools:
            for block, reuse in self.ground.blocks.items():
                if not within(block, pool.spec.cidr):
                    continue
                for address in reuse.available(self.ground.idle_since):
                    if address not in self.used and address not in self._running and not self._reserved(address):
                        return address, block
        return None

    def _reserved(self, address: str) -> bool:
        return any(within(address, cidr) for cidr in self.ground.reserved)

    def _want(self, pools: Sequence[IPPool], family: int) -> bool:
        """Ask for a block of the first pool that may still have one; False: there is none to be had."""
        count = sum(version(block) == family for block in self.ground.blocks)
        pool = next((pool for pool in pools if pool.metadata.name not in self.ground.exhausted), None)
        if pool is None or not self.ground.claiming or count >= self.ground.most_blocks:
            self.result.lacking = True
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
        """Address of the node's VXLAN device, if some pool of that family is encapsulated.

        It is kept until its pool goes, and then exchanged for another: no pool would ever be rid of it otherwise.
        """
        pools = [pool for pool in self.ground.pools if version(pool.spec.cidr) == family]
        if all(pool.spec.vxlan_mode == "Never" for pool in pools):
            return ""
        tunnels = self.ground.previous.tunnels
        kept = tunnels.vxlan4 if family == 4 else tunnels.vxlan6
        if kept and pool_of(kept, [pool for pool in pools if not pool.metadata.deletion_timestamp]):
            return kept
        givers = [pool for pool in self._tunnels if version(pool.spec.cidr) == family]
        if found := self._next(givers):
            return self._take(*found)
        if givers:
            self._want(givers, family)
            return kept
        return ""

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _groups(self, family: int) -> Iterator[tuple[list[IPPool], int]]:
        """Pools whose blocks serve the same, and how many free addresses are kept ahead of need."""
        named = {pool.metadata.name: pool for pool in (*self._workload, *self._tunnels)}
        pools = [pool for pool in named.values() if version(pool.spec.cidr) == family]
        general = [pool for pool in pools if pool in self._workload and not pool.spec.namespace_selector]
        yield general, max((ahead(pool) for pool in general), default=0)
        yield from (([pool], 0) for pool in pools if pool not in general)

    def _free(self, pools: Sequence[IPPool]) -> dict[str, int]:
        """How many addresses are left in each of the blocks of `pools`, counting those that cool down."""
        found = {}
        for block, reuse in self.ground.blocks.items():
            if pool_of(block, pools):
                found[block] = len(reuse) - self._given[block]
                if self.ground.reserved:
                    free = (a for a in reuse.available(float("inf")) if a not in self.used)
                    found[block] = sum(not self._reserved(address) for address in free)
        return found

    def _keep_ahead(self, family: int) -> None:
        """Blocks are claimed before they are needed, so that a pod's start does not wait for it."""
        pools, keep = next(self._groups(family))
        wanted = any(pool.metadata.name in self.result.wants for pool in pools)
        if pools and not wanted and sum(self._free(pools).values()) < keep:
            self._want(pools, family)

    def _leave(self) -> None:
        """Blocks that no pool wants here any more, once they are empty, and of the others those beyond need."""
        blocks = {
            block: self.ground.blocks[block] for block in self.ground.previous.blocks if block in self.ground.blocks
        }
        empty = {block for block, reuse in blocks.items() if reuse.empty and not self._given[block]}
        if not empty:
            return
        sizes = {block: reuse.size for block, reuse in self.ground.blocks.items()}
        wanted: set[str] = set()
        for pools, keep in (*self._groups(4), *self._groups(6)):
            free = self._free(pools)
            wanted |= free.keys()
            if self.ground.claiming and not any(pool.metadata.name in self.result.wants for pool in pools):
                self.result.leaving += surplus(free, sizes, empty & free.keys(), keep)
        self.result.leaving += sorted(empty - wanted)
