"""Programs at pods' veths and what they go by.

Marks of ownership: the folder of pins, and handle and priority of the filters. Nothing notifies of maps and pins: these
are looked at twice a second (LOOK); filters notify.

The order of changes is what makes a new endpoint safe: the programs are loaded, its entry is put, then its device is
given both programs, then comes its policy (PolicyReconciler), and only then (LinksReconciler, which comes after these
and asks `guarded`) is the host end of the veth set up. Before that the kernel passes nothing in either direction.

A device that is no longer wanted keeps its programs for as long as it exists: without an entry they drop everything,
whereas without them it would be open to whoever can route to it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tortie.nodeagent.desired import Datapath
from tortie.nodeagent.facts import WORKLOAD_PREFIX
from tortie.nodeagent.kernel.reconcile import LOOK, Failure, Message, Seen
from tortie.nodeagent.maps import filters
from tortie.nodeagent.maps.layout import (
    ENDPOINTS,
    MAPS,
    MEMBER,
    NODES,
    PROGRAMS,
    endpoint_key,
    endpoint_value,
    node_key,
)
from tortie.nodeagent.maps.pins import Pins, Program, build

TC_EVENTS = {"RTM_NEWTFILTER", "RTM_DELTFILTER", "RTM_NEWQDISC", "RTM_DELQDISC"}
TABLES = (ENDPOINTS, NODES)
"""The maps whose content is ours to say; the others are written by the programs."""


@dataclass(frozen=True)
class Load:
    name: str
    build: str


@dataclass(frozen=True)
class Pin:
    name: str
    id: int


@dataclass(frozen=True)
class Entry:
    """An entry of a map; `value` None: remove it."""

    table: str
    key: bytes
    value: bytes | None
    item: str


@dataclass(frozen=True)
class Attach:
    ifname: str
    ifindex: int
    program: str
    build: str


@dataclass(frozen=True)
class Unpin:
    """A program or map that nothing of ours uses any more."""

    name: str


Op = Load | Pin | Entry | Attach | Unpin
Content = dict[bytes, bytes]


@dataclass
class Actual:
    builds: dict[str, str]
    """Program → build of its object file; empty: it cannot be read."""
    programs: list[Program]
    maps: dict[str, int]
    """Name of the pin → id."""
    content: dict[str, Content]
    devices: dict[str, int]
    """Pods' host devices → ifindex; one that is gone stays here until the next full read, so that its entry's removal
    counts as a wish of whoever removed the pod, and not as a repair."""
    filters: dict[tuple[int, str], int] = field(default_factory=dict)
    """(ifindex, program) → id of the program that the filter runs; 0: none."""
    gone: set[int] = field(default_factory=set)


class BpfReconciler:
    subsystem = "bpf"

    def __init__(self, bpf_dir: Path, bpffs: Path) -> None:
        """Object files are `bpf_dir`/NAME.bpf.o; `bpffs` is a mounted bpffs."""
        self._objects = bpf_dir
        self._pins = Pins(bpffs)

    async def read(self) -> Actual:
        devices = {name: index for index, name in socket.if_nameindex() if name.startswith(WORKLOAD_PREFIX)}
        actual = Actual(
            builds={name: self._build(name) for name in PROGRAMS},
            programs=self._pins.loaded(),
            maps=self._pins.map_ids(),
            content=self._content(),
            devices=devices,
        )
        for index in devices.values():
            self._see(actual, index)
        return actual

    def observe(self, actual: Actual, message: Message) -> Seen:
        event = message["event"]
        if event == LOOK["event"]:
            return self._look(actual)
        if event in TC_EVENTS and message["index"] in actual.devices.values():
            return Seen.FOLDED if self._see(actual, message["index"]) else Seen.NOTHING
        if event == "RTM_DELLINK" and message["index"] in actual.devices.values():
            actual.gone.add(message["index"])
            return Seen.FOLDED
        if event == "RTM_NEWLINK":
            name, index = message.get("ifname") or "", message["index"]
            if name.startswith(WORKLOAD_PREFIX) and (actual.devices.get(name) != index or index in actual.gone):
                actual.devices[name] = index
                actual.gone.discard(index)
                self._see(actual, index)
                return Seen.FOLDED
        return Seen.NOTHING

    def diff(self, desired: Datapath, actual: Actual) -> Sequence[Op]:
        batch: list[Op] = [*programs(actual), *entries(desired, actual), *attachments(desired, actual)]
        return batch or [Unpin(name) for name in leftovers(actual)]

    async def apply(self, batch: Sequence[Op]) -> Sequence[Failure[Op]]:
        failures = []
        for op in batch:
            try:
                self._do(op)
            except OSError as error:
                failures.append(Failure(op, item(op), error.strerror or str(error)))
        return failures

    def _do(self, op: Op) -> None:
        match op:
            case Load(name, _):
                self._pins.load(name, self._object(name).read_bytes())
            case Pin(name, number):
                self._pins.pin(name, number)
            case Entry(name, key, value, _):
                with self._pins.table(name) as table:
                    if value is None:
                        table.delete(key)
                    else:
                        table.put(key, value)
            case Attach(_, index, name, its_build):
                with self._pins.program(name, its_build) as program:
                    filters.attach(index, name, program)
            case Unpin(name):
                self._pins.unpin(name)

    def _object(self, program: str) -> Path:
        return self._objects / f"{program}.bpf.o"

    def _build(self, program: str) -> str:
        try:
            return build(self._object(program).read_bytes())
        except OSError:
            return ""

    def _content(self) -> dict[str, Content]:
        content: dict[str, Content] = {}
        for name in TABLES:
            try:
                with self._pins.table(name) as table:
                    content[name] = dict(table.items())
            except FileNotFoundError:
                content[name] = {}
        return content

    def _look(self, actual: Actual) -> Seen:
        """Whether someone has changed maps or pins (we, too: this comes after each batch)."""
        try:
            pinned = {program.pin for program in actual.programs}
            if self._pins.map_ids() != actual.maps or self._pins.program_names() != pinned:
                return Seen.STALE
            content = self._content()
        except OSError:
            return Seen.STALE
        if content == actual.content:
            return Seen.NOTHING
        actual.content = content
        return Seen.FOLDED

    def _see(self, actual: Actual, index: int) -> bool:
        """Look at a device's filters; whether they have changed."""
        before = [actual.filters.get((index, name)) for name in PROGRAMS]
        for name in PROGRAMS:
            actual.filters[index, name] = filters.attached(index, name)
        return before != [actual.filters[index, name] for name in PROGRAMS]


def chosen(name: str, actual: Actual) -> Program | None:
    """The pinned program of the file's build, else the latest of another: what is in force until that one loads."""
    pinned = [program for program in actual.programs if program.name == name]
    return max(pinned, key=lambda program: (program.build == actual.builds[name], program.id), default=None)


def programs(actual: Actual) -> Iterator[Load | Pin]:
    """Programs of the files' builds, over maps that are all pinned."""
    maps = dict(actual.maps)
    for name in PROGRAMS:
        program = chosen(name, actual)
        fits = program is not None and program.build == actual.builds[name]
        for each, number in program.maps if program else ():
            if each in MAPS and each not in maps:
                maps[each] = number
                yield Pin(each, number)
            elif each in MAPS and maps[each] != number:
                fits = False
        if not fits:
            yield Load(name, actual.builds[name])


def entries(desired: Datapath, actual: Actual) -> Iterator[Entry]:
    """What leaves and what comes into the maps."""
    wanted: dict[str, dict[bytes, tuple[bytes, str]]] = {
        NODES: {node_key(address): (MEMBER, f"node/{address}") for address in desired.node_addresses},
        ENDPOINTS: {},
    }
    for each in desired.endpoints:
        if index := actual.devices.get(each.ifname):
            value = endpoint_value(each.state, each.ipv4, each.ipv6, each.mac)
            wanted[ENDPOINTS][endpoint_key(index)] = value, f"datapath/{each.ifname}"
    for table, content in wanted.items():
        there = actual.content[table]
        for key in sorted(there.keys() - content.keys()):
            yield Entry(table, key, None, f"map/{table}")
        for key, (value, what) in content.items():
            if there.get(key) != value:
                yield Entry(table, key, value, what)


def attachments(desired: Datapath, actual: Actual) -> Iterator[Attach]:
    """While a build is being loaded its predecessor counts as right, be it no longer pinned; the next round puts the
    new one in its place, by when PolicyReconciler has filled its maps, should these be new."""
    for name in PROGRAMS:
        program = chosen(name, actual)
        for each in desired.endpoints:
            index = actual.devices.get(each.ifname)
            if index is None or index in actual.gone:
                continue
            running = actual.filters.get((index, name))
            if program is None and not running:
                yield Attach(each.ifname, index, name, actual.builds[name])
            elif program is not None and running != program.id:
                yield Attach(each.ifname, index, name, program.build)


def leftovers(actual: Actual) -> Iterator[str]:
    """Pins of earlier builds and of maps of another format, once nothing of ours uses them."""
    current = [chosen(name, actual) for name in PROGRAMS]
    yield from (program.pin for program in actual.programs if program not in current)
    yield from (name for name in actual.maps if name not in MAPS)


def item(op: Op) -> str:
    match op:
        case Load(name, _):
            return f"program/{name}"
        case Pin(name, _) | Unpin(name):
            return f"pin/{name}"
        case Entry():
            return op.item
        case Attach(ifname, _, _, _):
            return f"datapath/{ifname}"
