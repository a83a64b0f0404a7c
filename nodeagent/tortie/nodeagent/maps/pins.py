"""Programs and maps that outlive the agent, pinned in a folder of ours on bpffs, which is the mark of ownership.

A program's pin is named after the build, the hash of the object file that it came from: so a restarted agent knows
whether the kernel runs what it would load. bpffs allows no dots in names.
"""

from __future__ import annotations

import ctypes as ct
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tortie.nodeagent.maps.libbpf import OpenOptions, ProgramInfo, call, lib, opened
from tortie.nodeagent.maps.table import Table, map_info


@dataclass(frozen=True)
class Program:
    """A pinned program; the higher of two ids was loaded later."""

    pin: str
    name: str
    build: str
    id: int
    maps: tuple[tuple[str, int], ...]
    """Name and id of each map that it uses, pinned or not."""


def build(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()[:16]


class Pins:
    """`maps/NAME` and `programs/NAME_BUILD`."""

    def __init__(self, bpffs: Path) -> None:
        self.maps = bpffs / "tortie" / "maps"
        self.programs = bpffs / "tortie" / "programs"

    def table(self, name: str) -> Table:
        return Table.open(self.maps / name)

    def map_ids(self) -> dict[str, int]:
        found = {}
        for name in names(self.maps):
            with self.table(name) as table:
                found[name] = table.id
        return found

    def program_names(self) -> frozenset[str]:
        """Of the pins of all programs."""
        return names(self.programs)

    def loaded(self) -> list[Program]:
        """All pinned programs, those of earlier builds included."""
        return [self._program(pin) for pin in sorted(names(self.programs))]

    def load(self, name: str, image: bytes) -> None:
        """Load program `name` of an object file and pin it beside earlier builds. Maps that are pinned already are
        used, the others made and pinned. Raises OSError; then nothing has changed."""
        self.programs.mkdir(parents=True, exist_ok=True)
        options = OpenOptions(ct.sizeof(OpenOptions), name.encode(), False, os.fsencode(self.maps))
        handle = call(f"opening object {name}", lib.bpf_object__open_mem, image, len(image), ct.byref(options))
        try:
            call(f"loading {name}", lib.bpf_object__load, handle)
            program = call(f"no program in object {name}", lib.bpf_object__find_program_by_name, handle, name.encode())
            pin = self._pin(name, build(image))
            pin.unlink(missing_ok=True)
            call(f"pinning {name}", lib.bpf_program__pin, program, os.fsencode(pin))
        finally:
            lib.bpf_object__close(handle)

    def unpin(self, program_or_map: str) -> None:
        """By the pin's name; it goes from the kernel once nothing uses it any more."""
        for folder in (self.maps, self.programs):
            (folder / program_or_map).unlink(missing_ok=True)

    def pin(self, name: str, map_id: int) -> None:
        """Pin a map that programs use and whose pin someone removed."""
        self.maps.mkdir(parents=True, exist_ok=True)
        fd = call(f"opening map {map_id}", lib.bpf_map_get_fd_by_id, map_id)
        try:
            call(f"pinning map {name}", lib.bpf_obj_pin, fd, os.fsencode(self.maps / name))
        finally:
            os.close(fd)

    @contextmanager
    def program(self, name: str, its_build: str) -> Iterator[int]:
        """A descriptor of a pinned program. Raises FileNotFoundError."""
        fd = opened(self._pin(name, its_build))
        try:
            yield fd
        finally:
            os.close(fd)

    def _pin(self, name: str, its_build: str) -> Path:
        return self.programs / f"{name}_{its_build}"

    def _program(self, pin: str) -> Program:
        fd = opened(self.programs / pin)
        try:
            number, maps = used(fd)
        finally:
            os.close(fd)
        name, _, its_build = pin.rpartition("_")
        return Program(pin, name, its_build, number, maps)


def names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()


def used(program_fd: int) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Id of a program, and the names and ids of its maps."""
    room = 64
    ids = (ct.c_uint32 * room)()
    info = ProgramInfo(nr_map_ids=room, map_ids=ct.addressof(ids))
    size = ct.c_uint32(ct.sizeof(info))
    call("reading a program's description", lib.bpf_obj_get_info_by_fd, program_fd, ct.byref(info), ct.byref(size))
    found = []
    for number in ids[: info.nr_map_ids]:
        fd = call(f"opening map {number}", lib.bpf_map_get_fd_by_id, number)
        try:
            found.append((map_info(fd).name.decode(), number))
        finally:
            os.close(fd)
    return info.id, tuple(found)
