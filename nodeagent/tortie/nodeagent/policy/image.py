"""What policy should be on this node, still without numbers: classes, stacks, and for each stack the atoms that each
class matches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from tortie.api.protocols import Span
from tortie.nodeagent.policy.classes import Addresses, Cell, Questions, Signature, addresses
from tortie.nodeagent.policy.kinds import ALL, KindSet, partition
from tortie.nodeagent.policy.stacks import Atom, End, Entry, atoms, entries, holds
from tortie.policy.cluster import WORKLOAD, Address, Cluster, Endpoint, Network

MOST_ATOMS = 32768
DIRECTIONS = ("Ingress", "Egress")
"""In the order of `enum direction`."""

KindSignature = frozenset[KindSet]


class Side(Enum):
    """In the order of `struct stack`."""

    SOURCE = 0
    DESTINATION = 1
    KIND = 2
    SOURCE_KIND = 3


@dataclass(frozen=True)
class Stack:
    atoms: tuple[Atom, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.atoms)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """What policy says, whatever the ports resolve to."""
        return tuple(dict.fromkeys(atom.entry for atom in self.atoms))

    @cached_property
    def constrained(self) -> frozenset[Side]:
        """The sides that some atom looks at."""
        found = set()
        for atom in self.atoms:
            found |= {Side.SOURCE} if atom.source else set()
            found |= {Side.DESTINATION} if atom.destination else set()
            found |= {Side.KIND} if atom.kinds != ALL else set()
            found |= {Side.SOURCE_KIND} if atom.source_kinds != ALL else set()
        return frozenset(found)

    def masks(self, side: Side) -> Mapping[End | KindSet | None, int]:
        """What atoms may ask at a side → those that ask it, as bits."""
        return self._masks[side]

    @cached_property
    def _masks(self) -> dict[Side, dict[End | KindSet | None, int]]:
        found: dict[Side, dict[End | KindSet | None, int]] = {side: {} for side in Side}
        for number, atom in enumerate(self.atoms):
            asked = (atom.source, atom.destination, atom.kinds, atom.source_kinds)
            for side, each in zip(Side, asked, strict=True):
                found[side][each] = found[side].get(each, 0) | 1 << number
        return found

    def kind_row(self, side: Side, signature: KindSignature) -> int:
        row = 0
        for each, mask in self.masks(side).items():
            if each == ALL or each in signature:
                row |= mask
        return row


@dataclass(frozen=True)
class Image:
    addresses: Addresses
    kinds: tuple[tuple[int, Span, KindSignature], ...]
    """Row, numbers, class."""
    stacks: Mapping[str, tuple[Stack, Stack]]
    """By host device: ingress and egress."""
    cluster: Cluster = field(compare=False)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Host device → why it has no stacks."""
    _held: dict[tuple[End, bool], dict[Signature, bool]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def kind_signatures(self) -> frozenset[KindSignature]:
        return frozenset(signature for _, _, signature in self.kinds)

    def row(self, stack: Stack, side: Side, signature: Signature) -> int:
        """Atoms of the stack that an address of that class matches, as bits."""
        row, party = 0, self.addresses.parties[signature]
        for end, mask in stack.masks(side).items():
            if end is None or (isinstance(end, End) and self._holds(end, signature, party, source=side is Side.SOURCE)):
                row |= mask
        return row

    def _holds(self, end: End, signature: Signature, party: Cell, *, source: bool) -> bool:
        known = self._held.setdefault((end, source), {})
        if signature not in known:
            known[signature] = holds(end, party, self.cluster, source=source)
        return known[signature]


def image(
    cluster: Cluster,
    local: Mapping[str, Endpoint],
    plain: Iterable[Address] = (),
    blocks: Collection[Network] = (),
) -> Image:
    """`local`: endpoints by host device. `plain` and `blocks`: as `classes.addresses` takes them."""
    steps: dict[tuple[object, ...], tuple[Entry, ...]] = {}
    chosen: dict[str, tuple[tuple[object, ...], ...]] = {}
    for device, endpoint in local.items():
        keys = []
        for direction in DIRECTIONS:
            tiers = cluster.applicable(endpoint, direction, WORKLOAD)
            key = (direction, endpoint.profiles, *(id(policy) for policies in tiers for policy in policies))
            if key not in steps:
                steps[key] = entries(cluster, endpoint, direction)
            keys.append(key)
        chosen[device] = tuple(keys)
    rules = {id(each.rule): each.rule for some in steps.values() for each in some}
    known = addresses(Questions.of(rules.values(), cluster), cluster, plain, blocks)
    made = {key: _stack(some, known.parties.values(), cluster) for key, some in steps.items()}
    failed = {
        device: f"its policies need more than {MOST_ATOMS} atoms"
        for device, keys in chosen.items()
        if any(len(made[key].atoms) > MOST_ATOMS for key in keys)
    }
    stacks = {d: (made[ingress], made[egress]) for d, (ingress, egress) in chosen.items() if d not in failed}
    used = {stack for pair in stacks.values() for stack in pair}
    sets = {each for stack in used for atom in stack.atoms for each in (atom.kinds, atom.source_kinds)} - {ALL}
    return Image(known, tuple(partition(sets)), stacks, cluster, failed)


def _stack(steps: Iterable[Entry], parties: Iterable[Cell], cluster: Cluster) -> Stack:
    return Stack(tuple(atom for entry in steps for atom in atoms(entry, parties, cluster)))
