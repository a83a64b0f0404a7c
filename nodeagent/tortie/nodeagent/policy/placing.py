"""Where stacks lie in the maps: their rows by class, the lines of these, their atoms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.layout import ATOMS, ENTRIES, LINES, ROWS, STACKS, UNCONSTRAINED
from tortie.nodeagent.policy.blocks import Blocks
from tortie.nodeagent.policy.classes import Signature
from tortie.nodeagent.policy.image import Image, KindSignature, Side, Stack
from tortie.nodeagent.policy.writes import Put, Store, Write

ALL_ONES = 0
"""The line of sides that no rule looks at."""
FULL = b"\xff" * layout.LINE


@dataclass
class Placed:
    number: int
    room: int
    atoms: int
    count: int
    regions: dict[Side, int]
    """First row of each constrained side."""
    rows: dict[Side, dict[int, bytes]] = field(default_factory=dict)
    """By class: which lines are not empty (8 bytes), and these lines, one after the other."""
    known: dict[Side, dict[int, object]] = field(default_factory=dict)
    """By class: the signature that the row is of."""


class Placer:
    def __init__(self) -> None:
        self.stacks = Blocks(STACKS, 1, ENTRIES[STACKS])
        self.rows = Blocks(ROWS, 0, ENTRIES[ROWS])
        self.lines = Blocks(LINES, 1, ENTRIES[LINES])
        self.atoms = Blocks(ATOMS, 0, ENTRIES[ATOMS])
        self.rules = Blocks(layout.RULES, 1, ENTRIES[layout.RULES])
        self.slots: dict[str, int] = {}
        """Id of a rule → index of its counter."""
        self._content: dict[bytes, int] = {}
        """Lines that lie one after the other → the first of them."""
        self._kept: dict[Stack, Placed] = {}
        self._retired: list[Placed] = []
        """Outgrown: their stacks lie elsewhere with more room."""
        self._opaque: list[tuple[Blocks, int, int]] = []
        """In use by what an agent before this one has put in force."""
        self._began = False

    def place(
        self,
        image: Image,
        classes: Mapping[Signature, int],
        kinds: Mapping[KindSignature, int],
        stacks: dict[Stack, Placed],
        room: int,
    ) -> Iterator[Write]:
        """All stacks of the image into `stacks`; those that are there already get rows of classes that are new."""
        if not self._began:
            self._began = True
            yield Store(LINES, ALL_ONES, FULL)
        for stack in dict.fromkeys(stack for pair in image.stacks.values() for stack in pair):
            placed = stacks.get(stack)
            if placed is None or placed.room != room:
                if placed is not None:
                    self._retired.append(placed)
                placed = stacks[stack] = self._place(stack, room)
                yield from self._rows(image, stack, placed, classes, kinds)
                yield from self._atoms(stack, placed)
                regions = [placed.regions.get(side, UNCONSTRAINED) for side in Side]
                yield Store(STACKS, placed.number, layout.STACK.pack(*regions, placed.atoms, placed.count, 0))
            else:
                yield from self._rows(image, stack, placed, classes, kinds)

    def adopt(
        self, number: int, stack: bytes, room: int, row: Callable[[int], bytes], atom: Callable[[int], bytes]
    ) -> None:
        """A stack in force whose meaning is not known; `row` and `atom` read entries of these maps."""
        *regions, first, count, _ = layout.STACK.unpack(stack)
        self._reserve(self.stacks, number, 1)
        self._reserve(self.atoms, first, max(1, count))
        for at in range(first, first + count):
            _, _, slot, name = layout.ATOM.unpack(atom(at))
            self.rules.reserve(slot, 1)
            self.slots[f"{name:016x}"] = slot
        for region in regions:
            if region != UNCONSTRAINED:
                self._reserve(self.rows, region, room)
                for at in range(region, region + room):
                    mask, line, present = layout.ROW.unpack(row(at))
                    if present and mask:
                        self._reserve(self.lines, line, mask.bit_count())

    def _reserve(self, blocks: Blocks, start: int, count: int) -> None:
        blocks.reserve(start, count)
        self._opaque.append((blocks, start, count))

    def keep(self, stacks: Mapping[Stack, Placed]) -> None:
        """Give back what others had."""
        for blocks, start, count in merged(self._opaque):
            blocks.give(start, count)
        self._opaque = []
        current = {id(placed) for placed in stacks.values()}
        for placed in (*self._kept.values(), *self._retired):
            if id(placed) not in current:
                self.stacks.give(placed.number, 1)
                self.atoms.give(placed.atoms, max(1, placed.count))
                for region in placed.regions.values():
                    self.rows.give(region, placed.room)
        self._kept, self._retired = dict(stacks), []
        used = {row[8:] for placed in stacks.values() for rows in placed.rows.values() for row in rows.values()}
        for content in self._content.keys() - used:
            self.lines.give(self._content.pop(content), len(content) // layout.LINE)
        ids = {atom.entry.id for stack in stacks for atom in stack.atoms}
        for unused in self.slots.keys() - ids:
            self.rules.give(self.slots.pop(unused), 1)

    def _place(self, stack: Stack, room: int) -> Placed:
        return Placed(
            number=self.stacks.take(1),
            room=room,
            atoms=self.atoms.take(max(1, len(stack.atoms))),
            count=len(stack.atoms),
            regions={side: self.rows.take(room) for side in sorted(stack.constrained, key=lambda side: side.value)},
        )

    def _rows(
        self,
        image: Image,
        stack: Stack,
        placed: Placed,
        classes: Mapping[Signature, int],
        kinds: Mapping[KindSignature, int],
    ) -> Iterator[Write]:
        for side, region in placed.regions.items():
            rows, known = placed.rows.setdefault(side, {}), placed.known.setdefault(side, {})
            for signature, number in (classes if side in (Side.SOURCE, Side.DESTINATION) else kinds).items():
                if number in known and known[number] == signature:
                    continue
                if isinstance(signature, Signature):
                    bits = image.row(stack, side, signature)
                else:
                    bits = stack.kind_row(side, signature)
                known[number] = signature
                row = rows[number] = compact(bits, placed.count)
                content = row[8:]
                if content and content not in self._content:
                    first = self._content[content] = self.lines.take(len(content) // layout.LINE)
                    yield Store(LINES, first, content)
                mask = int.from_bytes(row[:8], "little")
                packed = layout.ROW.pack(mask, self._content[content] if content else ALL_ONES, 1)
                yield Store(ROWS, region + number, packed)

    def _atoms(self, stack: Stack, placed: Placed) -> Iterator[Write]:
        tiers = [atom.entry.tier for atom in stack.atoms]
        nexts: dict[int, int] = {}
        for number in reversed(range(len(tiers))):
            nexts[tiers[number]] = number
        following = {tier: min((at for t, at in nexts.items() if t > tier), default=len(tiers)) for tier in nexts}
        packed = []
        for atom in stack.atoms:
            entry = atom.entry
            if entry.id not in self.slots:
                self.slots[entry.id] = self.rules.take(1)
                yield Put(layout.RULES, layout.array_key(self.slots[entry.id]), b"")
            action = layout.ACTIONS[entry.step.action]
            packed.append(
                layout.ATOM.pack(action, following[entry.tier], self.slots[entry.id], int(entry.id or "0", 16))
            )
        yield Store(ATOMS, placed.atoms, b"".join(packed))


def merged(runs: Iterable[tuple[Blocks, int, int]]) -> Iterator[tuple[Blocks, int, int]]:
    """Stacks share rows' lines: every number once."""
    by_blocks: dict[int, tuple[Blocks, set[int]]] = {}
    for blocks, start, count in runs:
        by_blocks.setdefault(id(blocks), (blocks, set()))[1].update(range(start, start + count))
    for blocks, numbers in by_blocks.values():
        yield from ((blocks, number, 1) for number in numbers)


def compact(bits: int, count: int) -> bytes:
    """A mask of the lines that have any bit (8 bytes), and these lines."""
    lines = bits.to_bytes((count + 511) // 512 * layout.LINE, "little")
    mask, found = 0, []
    for number in range(len(lines) // layout.LINE):
        line = lines[number * layout.LINE : (number + 1) * layout.LINE]
        if any(line):
            mask |= 1 << number
            found.append(line)
    return mask.to_bytes(8, "little") + b"".join(found)
