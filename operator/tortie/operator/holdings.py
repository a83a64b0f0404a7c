"""Which blocks a NodePeer may name: entered by one door, left by the other, however many operators think they lead.

Nothing but resourceVersions stands between two operators, and a block is three objects. So the order of two writes
decides, each made from a version that was known before the other:

- *enter*: know the NodePeer, **confirm** the BlockAffinity, write the NodePeer **with** the block;
- *leave*: know the BlockAffinity, write the NodePeer **without** the block, move the affinity to **pendingDeletion**.

Of an enter and a leave that cross, one fails: if the NodePeer without the block was written after the enterer had
read it, its own write conflicts; if before, its confirmation is newer than what the leaver knows of the affinity, or
finds it pendingDeletion, and from there no affinity comes back. So as long as a NodePeer names a block, its affinity
is confirmed, and once it is pendingDeletion nobody can use the block again. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tortie.api.calico import BlockAffinity
from tortie.operator.world import World


@dataclass
class Chain:
    """The versions of one NodePeer since someone else wrote it: all of them but the first are ours."""

    version: int
    number: int = 0
    """Of the chain: another one after every version that is not ours."""
    sending: bool = False
    """A write of ours is on its way: a watch may tell of it before its answer does."""
    entering: dict[str, int] = field(default_factory=dict)
    """Block whose affinity we confirmed → number of the chain that was known before."""
    leaving: dict[str, BlockAffinity] = field(default_factory=dict)
    """Block that we took out of the NodePeer → its affinity as it was known before."""


class Holdings:
    """Of one operator's term."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chains: dict[str, Chain] = {}

    def chain(self, node: str) -> Chain:
        published = self._world.peers.get(node)
        version = published.metadata.version if published else 0
        chain = self._chains.setdefault(node, Chain(version))
        if chain.version != version and not chain.sending:
            chain.version = version
            chain.number += 1
        return chain

    def named(self, node: str) -> tuple[str, ...]:
        """Blocks that the published NodePeer names."""
        published = self._world.peers.get(node)
        return published.spec.blocks if published else ()

    def usable(self, node: str) -> list[str]:
        """Blocks that addresses may be taken from in the NodePeer that replaces the published one."""
        if node not in self._world.peers:
            return []
        chain, named = self.chain(node), self.named(node)
        confirmed = [a.spec.cidr for a in self._world.affinities_of(node) if a.spec.state == "confirmed"]
        return [cidr for cidr in confirmed if cidr in named or self._enters(chain, cidr)]

    def _enters(self, chain: Chain, cidr: str) -> bool:
        return chain.entering.get(cidr) == chain.number and cidr not in chain.leaving

    def waits(self, affinity: BlockAffinity) -> bool:
        """Confirmed, but not for us to enter: it has to be confirmed anew."""
        node, cidr = affinity.spec.node, affinity.spec.cidr
        chain = self.chain(node)
        inside = cidr in self.named(node) or cidr in chain.leaving or self._enters(chain, cidr)
        return not inside and not chain.sending

    def known(self, node: str) -> int:
        """Number of the chain, to be asked for before an affinity is confirmed. There is none without a NodePeer: that
        one is missing cannot be a precondition for long, because it may be made and deleted meanwhile."""
        return self.chain(node).number if node in self._world.peers else -1

    def confirmed(self, node: str, cidr: str, known: int) -> None:
        """Its affinity was confirmed by a write that began when `known` was the number of the chain."""
        self.chain(node).entering[cidr] = known

    @contextmanager
    def sending(self, node: str) -> Iterator[None]:
        """While our own write of the NodePeer is on its way."""
        chain = self.chain(node)
        chain.sending = True
        try:
            yield
        finally:
            chain.sending = False

    def written(self, node: str, version: int, left: dict[str, BlockAffinity]) -> None:
        """Our own write of the NodePeer was acknowledged; it took out the blocks of `left` (affinities as before)."""
        chain = self._chains[node]
        chain.version = version
        chain.leaving.update(left)
        for cidr in left:
            chain.entering.pop(cidr, None)

    def left(self, node: str, cidr: str) -> BlockAffinity | None:
        """The affinity of a block that we took out of the NodePeer, as it is to be moved on."""
        return self.chain(node).leaving.get(cidr)

    def done(self, node: str, cidr: str) -> None:
        """It was moved on, or cannot be any more."""
        chain = self.chain(node)
        chain.leaving.pop(cidr, None)
        chain.entering.pop(cidr, None)
