"""From an image to writes: numbers for classes, stacks, rows, lines and atoms, in the column that is not in force.

The order of a change: what nothing refers to yet (lines, rows, atoms, stacks), then the other column's classes of
addresses and kinds and its words, then SWITCH. After a fence nobody looks at the column that was in force before, and
what only it used is free.

An address that was not in a map before gets for the column in force the class that it had without its entry; one that
is to go gets for the coming column the class that it will have without.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import accumulate, groupby
from mmap import mmap

from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.layout import ADDRESSES, ATOMS, KINDS, NETS, POLICIES, ROWS, STACKS, SWITCH
from tortie.nodeagent.policy.blocks import Blocks
from tortie.nodeagent.policy.classes import Signature
from tortie.nodeagent.policy.image import DIRECTIONS, Image, KindSignature, Stack
from tortie.nodeagent.policy.kinds import SIZES
from tortie.nodeagent.policy.placing import Placed, Placer
from tortie.nodeagent.policy.prefixes import Prefixes
from tortie.nodeagent.policy.writes import Delete, Fence, Put, Store, Write
from tortie.policy.cluster import Network

Memory = bytes | mmap
"""Values of an array, one after the other."""
LEAST_ROOM = 64
CLASS = 0xFFFFFF


@dataclass
class Numbers:
    """What an image has been given."""

    classes: dict[Signature, int] = field(default_factory=dict)
    kinds: dict[KindSignature, int] = field(default_factory=dict)
    stacks: dict[Stack, Placed] = field(default_factory=dict)


@dataclass
class Judged:
    """Under what an endpoint's flows of one direction were last judged."""

    stack: Stack
    epoch: int


@dataclass(frozen=True)
class Change:
    writes: list[Write]
    """With the last of them the image is in force."""
    afterwards: list[Write]
    """To be made before the next change."""


class Columns:
    """The content of the maps as this agent knows it, and what in it means what."""

    def __init__(self) -> None:
        self.column = 0
        self.rooms = [LEAST_ROOM, LEAST_ROOM]
        self.raw: dict[str, dict[bytes, int]] = {name: {} for name in (*ADDRESSES.values(), *NETS.values())}
        self.words: dict[int, tuple[int, ...]] = {}
        """By ifindex."""
        self.kinds: list[list[int]] = [[], []]
        """By column: class of each run of `_starts`."""
        self.starts: list[list[int]] = [[], []]
        self.epoch = 0
        self.placer = Placer()
        self.classes = Blocks("addresses", layout.UNKNOWN + 1, CLASS + 1)
        self.kind_classes = Blocks(KINDS, layout.UNKNOWN + 1, 1 << 32)
        self.held = Numbers()
        self._opaque: tuple[set[int], set[int]] = (set(), set())
        """Classes and kinds in force that an agent before this one gave."""
        self._judged: dict[tuple[int, int], Judged] = {}

    @classmethod
    def adopted(cls, arrays: Mapping[str, Memory], hashes: Mapping[str, Mapping[bytes, bytes]]) -> Columns:
        """What is in the maps, put there by whomever."""
        found = cls()
        (switch,) = layout.CLASSES.unpack_from(arrays[SWITCH])
        column = found.column = switch & 1
        found.rooms = [switch >> 8 & CLASS or LEAST_ROOM, switch >> 32 & CLASS or LEAST_ROOM]
        for name, raw in found.raw.items():
            raw.update({key: int.from_bytes(value, "little") for key, value in hashes[name].items()})
        classes = {value >> 24 * column & CLASS for raw in found.raw.values() for value in raw.values()}
        for number in classes - {layout.MISSING, layout.UNKNOWN}:
            found.classes.reserve(number, 1)
            found._opaque[0].add(number)
        kinds = array("I", arrays[KINDS][:])
        for each in (0, 1):
            runs = [(number, sum(1 for _ in run)) for number, run in groupby(kinds[each::2])]
            found.kinds[each] = [number for number, _ in runs]
            found.starts[each] = list(accumulate((length for _, length in runs[:-1]), initial=0))
        for number in set(found.kinds[column]) - {layout.MISSING, layout.UNKNOWN}:
            found.kind_classes.reserve(number, 1)
            found._opaque[1].add(number)
        stacks = set()
        for key, value in hashes[POLICIES].items():
            words = found.words[int.from_bytes(key, "little")] = layout.WORDS.unpack(value)
            found.epoch = max(found.epoch, *(word >> 32 for word in words))
            stacks |= {words[2 * column + direction] >> 16 & 0xFFFF for direction in range(len(DIRECTIONS))}

        def entry(name: str, size: int) -> Callable[[int], bytes]:
            return lambda at: bytes(arrays[name][at * size : (at + 1) * size])

        stack, row = entry(STACKS, layout.STACK.size), entry(ROWS, layout.ROW.size)
        atom = entry(ATOMS, layout.ATOM.size)
        for number in sorted(stacks - {0}):
            if number < layout.ENTRIES[STACKS]:
                found.placer.adopt(number, stack(number), found.rooms[column], row, atom)
        return found

    def change(self, image: Image, devices: Mapping[str, int]) -> Change:
        """The writes that put an image in force; `devices`: host device → ifindex. When they have been made, all of
        this is so; if one of them fails, read the maps anew. Raises Full; then read them anew, too."""
        coming = 1 - self.column
        numbers = self._numbers(image)
        used = (*numbers.classes.values(), *numbers.kinds.values())
        room = max(LEAST_ROOM, 1 << max(used, default=1).bit_length())
        self.rooms[coming] = room
        writes: list[Write] = list(self.placer.place(image, numbers.classes, numbers.kinds, numbers.stacks, room))
        moved = self._moved(image, numbers)
        late: list[Write] = []
        writes += self._classes(image, numbers, coming, late)
        writes += self._kinds(image, numbers, coming)
        writes += self._words(image, numbers, devices, coming, moved, late)
        self.column = coming
        writes.append(Store(SWITCH, 0, layout.CLASSES.pack(layout.in_force(coming, (self.rooms[0], self.rooms[1])))))
        self._release(numbers)
        return Change(writes, [Fence(), *late])

    def _numbers(self, image: Image) -> Numbers:
        numbers = Numbers()
        for signature in image.addresses.parties:
            numbers.classes[signature] = self.held.classes.get(signature) or self.classes.take(1)
        for kind in image.kind_signatures:
            numbers.kinds[kind] = self.held.kinds.get(kind) or self.kind_classes.take(1)
        for stack in {stack for pair in image.stacks.values() for stack in pair}:
            if stack in self.held.stacks:
                numbers.stacks[stack] = self.held.stacks[stack]
        return numbers

    def _release(self, numbers: Numbers) -> None:
        """What the image before had and this one has not."""
        for signature, number in self.held.classes.items():
            if numbers.classes.get(signature) != number:
                self.classes.give(number, 1)
        for kind, number in self.held.kinds.items():
            if numbers.kinds.get(kind) != number:
                self.kind_classes.give(number, 1)
        for blocks, opaque in zip((self.classes, self.kind_classes), self._opaque, strict=True):
            for number in opaque:
                blocks.give(number, 1)
            opaque.clear()
        self.placer.keep(numbers.stacks)
        self.held = numbers

    def _classes(self, image: Image, numbers: Numbers, coming: int, late: list[Write]) -> Iterator[Write]:
        for version in (4, 6):
            before, after = self._covers(version, self.column), _covers(image, numbers, version)
            hosts = {
                address.packed: numbers.classes[signature]
                for address, signature in image.addresses.hosts.items()
                if address.version == version
            }
            nets = {_net_key(net): number for net, number in _nets(image, numbers) if net.version == version}
            for name, wanted in ((NETS[version], nets), (ADDRESSES[version], hosts)):
                raw = self.raw[name]
                for key, number in wanted.items():
                    value = raw.get(key)
                    if value is None:
                        value = _in_column(0, self.column, next(before.covering(_shorter(name, key, version)), 0))
                    changed = _in_column(value, coming, number)
                    if name in ADDRESSES.values():
                        changed |= layout.check(key) << 48
                    if raw.get(key) != changed:
                        raw[key] = changed
                        yield Put(name, key, layout.CLASSES.pack(changed))
                for key in raw.keys() - wanted.keys():
                    changed = _in_column(raw[key], coming, next(after.covering(_shorter(name, key, version)), 0))
                    if raw[key] != changed:
                        yield Put(name, key, layout.CLASSES.pack(changed))
                    late.append(Delete(name, key))
                    del raw[key]

    def _covers(self, version: int, column: int) -> Prefixes[int]:
        found: Prefixes[int] = Prefixes()
        for key, value in self.raw[NETS[version]].items():
            found[_net(NETS[version], key, version)] = value >> 24 * column & CLASS
        return found

    def _kinds(self, image: Image, numbers: Numbers, coming: int) -> Iterator[Write]:
        offsets = [sum(SIZES[:row]) for row in range(len(SIZES))]
        starts = [offsets[row] + first for row, (first, _), _ in image.kinds]
        classes = [numbers.kinds[signature] for _, _, signature in image.kinds]
        if (starts, classes) == (self.starts[coming], self.kinds[coming]):
            return
        self.starts[coming], self.kinds[coming] = starts, classes
        cuts = sorted({*self.starts[0], *self.starts[1]})
        values, at = [0, 0], [0, 0]
        for start, end in zip(cuts, [*cuts[1:], sum(SIZES)], strict=True):
            for column in (0, 1):
                if at[column] < len(self.starts[column]) and self.starts[column][at[column]] == start:
                    values[column] = self.kinds[column][at[column]]
                    at[column] += 1
            yield Store(KINDS, start, struct.pack("=II", *values) * (end - start))

    def _words(
        self,
        image: Image,
        numbers: Numbers,
        devices: Mapping[str, int],
        coming: int,
        moved: set[tuple[int, int]],
        late: list[Write],
    ) -> Iterator[Write]:
        raised = self.epoch + 1
        wanted: dict[int, tuple[Stack, Stack]] = {
            devices[name]: pair for name, pair in image.stacks.items() if name in devices
        }
        for index, pair in wanted.items():
            words = list(self.words.get(index, (0, 0, 0, 0)))
            for direction, stack in enumerate(pair):
                before = self._judged.get((index, direction))
                if before is None or self._concerned(before.stack, stack, numbers, moved):
                    epoch = self.epoch = raised
                else:
                    epoch = before.epoch
                self._judged[index, direction] = Judged(stack, epoch)
                number = numbers.stacks[stack].number
                words[coming * len(DIRECTIONS) + direction] = layout.word(index, number, epoch)
                if index not in self.words:
                    words[self.column * len(DIRECTIONS) + direction] = layout.word(index, 0, 0)
            if self.words.get(index) != tuple(words):
                self.words[index] = tuple(words)
                yield Put(POLICIES, layout.endpoint_key(index), layout.WORDS.pack(*words))
        for index in self.words.keys() - wanted.keys():
            late.append(Delete(POLICIES, layout.endpoint_key(index)))
            words = list(self.words.pop(index))
            for direction in range(len(DIRECTIONS)):
                words[coming * len(DIRECTIONS) + direction] = layout.word(index, 0, 0)
                self._judged.pop((index, direction), None)
            yield Put(POLICIES, layout.endpoint_key(index), layout.WORDS.pack(*words))

    def _moved(self, image: Image, numbers: Numbers) -> set[tuple[int, int]]:
        """Classes before and after of addresses that keep their place and change their class."""
        found = set()
        for address, signature in image.addresses.hosts.items():
            value = self.raw[ADDRESSES[address.version]].get(address.packed)
            if value is not None:
                found.add((value >> 24 * self.column & CLASS, numbers.classes[signature]))
        for net, number in _nets(image, numbers):
            value = self.raw[NETS[net.version]].get(_net_key(net))
            if value is not None:
                found.add((value >> 24 * self.column & CLASS, number))
        return {(before, after) for before, after in found if before != after}

    def _concerned(self, before: Stack, after: Stack, numbers: Numbers, moved: set[tuple[int, int]]) -> bool:
        """Whether flows that were allowed must be judged anew."""
        if before != after:
            return before.entries != after.entries or bool(moved)
        rows = numbers.stacks[after].rows
        return any(side.get(old) != side.get(new) for side in rows.values() for old, new in moved)


def _covers(image: Image, numbers: Numbers, version: int) -> Prefixes[int]:
    found: Prefixes[int] = Prefixes()
    for net, number in _nets(image, numbers):
        if net.version == version:
            found[net] = number
    return found


def _nets(image: Image, numbers: Numbers) -> Iterator[tuple[Network, int]]:
    for net, signature in image.addresses.nets.items():
        yield net, layout.UNKNOWN if signature is None else numbers.classes[signature]


def _net_key(net: Network) -> bytes:
    return struct.pack("=I", net.prefixlen) + net.network_address.packed


def _shorter(name: str, key: bytes, version: int) -> Network:
    """The longest net other than the entry's own that could hold what it is for."""
    net = _net(name, key, version)
    if name in ADDRESSES.values() or net.prefixlen == 0:
        return net
    return net.supernet()


def _in_column(value: int, column: int, number: int) -> int:
    return value & ~(CLASS << 24 * column) | number << 24 * column


def _net(name: str, key: bytes, version: int) -> Network:
    if name in ADDRESSES.values():
        return ip_network(key)
    (length,) = struct.unpack_from("=I", key)
    return ip_network((key[4:], length))
