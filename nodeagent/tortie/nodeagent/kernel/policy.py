"""Policy in the programs' maps.

Mark of ownership: the maps' pins. A change goes into the column that is not in force and is switched to in one write
(policy/columns.py). Nothing notifies of maps: what is in the hashes, and which column is in force, is compared with
what we put there twice a second (LOOK); of large ones a part. What someone else changed is put in force anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tortie.nodeagent.kernel.reconcile import LOOK, Failure, Message, Seen
from tortie.nodeagent.maps import layout
from tortie.nodeagent.maps.layout import ADDRESSES, NETS, POLICIES
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.maps.policy import PolicyMaps
from tortie.nodeagent.policy.blocks import Full
from tortie.nodeagent.policy.columns import Columns
from tortie.nodeagent.policy.image import Image

LOOKED_AT = 8192
"""Entries of maps that are compared in one look."""

_serials = count(1)


@dataclass(frozen=True)
class Policy:
    """Desired state of this subsystem."""

    image: Image
    devices: Mapping[str, int]
    """Host device → ifindex."""
    serial: int = field(default_factory=lambda: next(_serials), compare=False)


@dataclass(frozen=True)
class Enforce:
    serial: int
    """Of the Policy."""
    policy: Policy = field(compare=False, repr=False)


@dataclass
class Actual:
    maps: PolicyMaps
    columns: Columns
    in_force: Policy | None = None
    """None: put there by an agent before, or by nobody."""
    turn: int = 0
    """Which part of large maps is looked at next."""


class PolicyReconciler:
    subsystem = "policy"

    def __init__(self, bpffs: Path) -> None:
        self._pins = Pins(bpffs)
        self._actual: Actual | None = None
        self._afterwards: asyncio.Task[None] | None = None
        """What the last change left to do, once no program is at the column before."""

    async def read(self) -> Actual:
        await self._settled()
        if self._actual is not None:
            if intact(self._actual, self._pins, whole=True):
                return self._actual
            self._actual.maps.close()
            self._actual = None
        maps = PolicyMaps(self._pins)
        self._actual = Actual(maps, adopted(maps))
        return self._actual

    def observe(self, actual: Actual, message: Message) -> Seen:
        if message["event"] != LOOK["event"] or (self._afterwards and not self._afterwards.done()):
            return Seen.NOTHING
        return Seen.NOTHING if intact(actual, self._pins) else Seen.STALE

    def diff(self, desired: Policy, actual: Actual) -> Sequence[Enforce]:
        return () if actual.in_force == desired else (Enforce(desired.serial, desired),)

    async def apply(self, batch: Sequence[Enforce]) -> Sequence[Failure[Enforce]]:
        actual = self._actual
        assert actual is not None, "read before"
        for op in batch:
            try:
                await self._settled()
                change = actual.columns.change(op.policy.image, op.policy.devices)
                actual.maps.make(change.writes)
            except (OSError, Full) as error:
                # Half of it may be in the maps, in the column that is not in force.
                actual.columns, actual.in_force = adopted(actual.maps), None
                return [Failure(op, self.subsystem, str(error))]
            actual.in_force = op.policy
            self._afterwards = asyncio.create_task(asyncio.to_thread(actual.maps.make, change.afterwards))
        return ()

    async def _settled(self) -> None:
        """The column that is not in force is nobody's any more. Takes an RCU grace period after a change. Raises
        OSError."""
        task, self._afterwards = self._afterwards, None
        if task is not None:
            await task


def adopted(maps: PolicyMaps) -> Columns:
    with maps.arrays() as arrays:
        return Columns.adopted(arrays, maps.hashes())


def intact(actual: Actual, pins: Pins, *, whole: bool = False) -> bool:
    """Whether the maps are pinned and hold what we put there. Of more than LOOKED_AT addresses one map is compared."""
    columns, maps = actual.columns, actual.maps
    rooms = columns.rooms[0], columns.rooms[1]
    try:
        pinned = pins.map_ids()
        if any(pinned.get(name) != number for name, number in maps.ids.items()):
            return False
        if actual.in_force is None:
            return True
        if maps.in_force() != layout.CLASSES.pack(layout.in_force(columns.column, rooms)):
            return False
        words = {layout.endpoint_key(index): layout.WORDS.pack(*each) for index, each in columns.words.items()}
        if dict(maps.tables[POLICIES].items()) != words:
            return False
        return all(_same(maps, name, columns.raw[name]) for name in _looked_at(actual, whole))
    except OSError:
        return False


def _looked_at(actual: Actual, whole: bool) -> Iterator[str]:
    names = (*ADDRESSES.values(), *NETS.values())
    if whole or sum(len(actual.columns.raw[name]) for name in names) <= LOOKED_AT:
        yield from names
        return
    actual.turn = (actual.turn + 1) % len(names)
    yield names[actual.turn]


def _same(maps: PolicyMaps, name: str, raw: Mapping[bytes, int]) -> bool:
    found = 0
    for key, value in maps.tables[name].items():
        if raw.get(key) != int.from_bytes(value, "little"):
            return False
        found += 1
    return found == len(raw)
