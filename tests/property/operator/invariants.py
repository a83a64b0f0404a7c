"""What must be true after every single write, whoever made it and whatever was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tortie.api.calico import BlockAffinity, IPAMBlock
from tortie.api.internal import Endpoint, NodePeer
from tortie.operator.compile.peers import networked
from tortie.operator.ipam.pools import within
from tortie.operator.orders import addresses
from tortie.operator.world import block_owner

from .apiserver import ApiServer

EPOCHAL = frozenset(("compiledpolicies", "compiledtiers", "compilednetworksets", "nodepeers", "nodestates"))
"""A superseded leader replaces nothing that its successor wrote (rule 8)."""


class Broken(AssertionError):
    """An invariant does not hold."""


class Invariants:
    """Listens to the server. `attached`: what every machine has attached now, as (node, UID, addresses)."""

    def __init__(self, server: ApiServer, attached: Callable[[], list[tuple[str, str, tuple[str, ...]]]]) -> None:
        self._server = server
        self._attached = attached
        self._holder: dict[str, str] = {}
        """Address → node whose NodePeer records it."""
        self._blocks: dict[str, set[str]] = {}
        """Node → blocks that its NodePeer names."""
        self._confirmed: dict[str, str] = {}
        """Block → node whose affinity to it is confirmed."""
        self._owner: dict[str, str] = {}
        """Block → node that its IPAMBlock names."""
        self._published: dict[str, tuple[str, ...]] = {}
        """UID of a pod → the addresses that were published for it."""
        server.listeners.append(self._happened)

    def _happened(self, plural: str, before: Any, after: Any) -> None:
        if plural in EPOCHAL and before is not None and after is not None and after.spec.epoch < before.spec.epoch:
            raise Broken(
                f"{plural} {after.metadata.name} of epoch {before.spec.epoch} is written in {after.spec.epoch}"
            )
        match plural:
            case "nodepeers":
                self._peer(before, after)
            case "blockaffinities":
                self._affinity(before, after)
            case "ipamblocks":
                self._block(before, after)

    def attaching(self, node: str, uid: str, given: tuple[str, ...]) -> None:
        for other, other_uid, held in self._attached():
            if other != node and set(held) & set(given):
                raise Broken(f"{given} of {uid} on {node} are attached to {other_uid} on {other}, too")

    def _peer(self, before: NodePeer | None, after: NodePeer | None) -> None:
        known = after or before
        assert known is not None
        node = known.metadata.name
        old, new = addresses(before), addresses(after)
        if after is not None:
            spec = after.spec
            count = (
                sum(len(e.addresses) for e in spec.endpoints) + bool(spec.tunnels.vxlan4) + bool(spec.tunnels.vxlan6)
            )
            if count != len(new):
                raise Broken(f"NodePeer {node} has an address twice: {spec}")
            for block in spec.blocks:
                if self._confirmed.get(block) != node:
                    raise Broken(f"NodePeer {node} has block {block}, confirmed for {self._confirmed.get(block)}")
                if self._owner.get(block) != node:
                    raise Broken(f"NodePeer {node} has block {block}, owned by {self._owner.get(block)}")
            for address in new - old:
                if not any(within(address, block) for block in spec.blocks):
                    raise Broken(f"NodePeer {node} gives {address}, which is in no block of {spec.blocks}")
        for address in old - new:
            del self._holder[address]
        for address in new - old:
            if self._holder.setdefault(address, node) != node:
                raise Broken(f"{address} is in the NodePeers of {self._holder[address]} and {node}")
        self._blocks[node] = set(after.spec.blocks) if after else set()
        for address in new:
            if not any(within(address, block) for block in self._blocks[node]):
                raise Broken(f"NodePeer {node} has {address} without its block")
        self._entries(before, after)

    def _entries(self, before: NodePeer | None, after: NodePeer | None) -> None:
        """A pod keeps its entry and its addresses for as long as it lives."""
        entries = {e.uid: e for e in after.spec.endpoints if e.addresses} if after else {}
        for uid, entry in entries.items():
            if self._lives(entry) and self._published.setdefault(uid, entry.addresses) != entry.addresses:
                raise Broken(f"pod {entry.name} had {self._published[uid]} and is given {entry.addresses}")
        for entry in before.spec.endpoints if before else ():
            if entry.addresses and entry.uid not in entries and self._lives(entry):
                raise Broken(f"pod {entry.name} lives and loses its entry")

    def _lives(self, entry: Endpoint) -> bool:
        pod = self._server.kind("pods").get(entry.name)
        return pod is not None and pod.metadata.uid == entry.uid and networked(pod)

    def _affinity(self, before: BlockAffinity | None, after: BlockAffinity | None) -> None:
        if before is not None and before.spec.state == "confirmed":
            self._confirmed.pop(before.spec.cidr, None)
        if after is not None and after.spec.state == "confirmed":
            if after.spec.cidr in self._confirmed:
                raise Broken(
                    f"{after.spec.cidr} is confirmed for {self._confirmed[after.spec.cidr]} and {after.spec.node}"
                )
            self._confirmed[after.spec.cidr] = after.spec.node
        elif before is not None and before.spec.cidr in self._blocks.get(before.spec.node, ()):
            state = after.spec.state if after else "gone"
            raise Broken(f"affinity {before.metadata.name} is {state}, and its NodePeer still has the block")

    def _block(self, before: IPAMBlock | None, after: IPAMBlock | None) -> None:
        if before is not None:
            self._owner.pop(before.spec.cidr, None)
        if after is not None:
            self._owner[after.spec.cidr] = block_owner(after)
            return
        assert before is not None
        cidr = before.spec.cidr
        for node, blocks in self._blocks.items():
            if cidr in blocks:
                raise Broken(f"block {cidr} is deleted, and NodePeer {node} still has it")
        for node, uid, held in self._attached():
            if any(within(address, cidr) for address in held):
                raise Broken(f"block {cidr} is deleted, and {uid} on {node} still uses {held}")
