"""Access to one map, over bcc's bindings. Keys and values are bytes; `layout` says what they mean."""

from __future__ import annotations

import ctypes as ct
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bcc.libbcc import lib as bcc

from tortie.nodeagent.maps.libbpf import MapInfo, call, lib, opened

PER_CPU = {5, 6, 10, 21}
"""PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE (enum bpf_map_type)."""
BATCH = 1024
"""Entries read at once. A bucket of a hash that holds more makes the kernel ask for more room."""


@dataclass(frozen=True)
class Table:
    """A map by its descriptor; `with` closes that, the map stays."""

    fd: int
    id: int
    name: str
    key_size: int
    value_size: int
    """Bytes of one value as user space sees it: of a per-CPU map, those of all possible CPUs, each padded to 8."""
    max_entries: int

    @classmethod
    def open(cls, pin: Path) -> Table:
        """Raises FileNotFoundError and other OSErrors."""
        return cls.of(opened(pin))

    @classmethod
    def of(cls, fd: int) -> Table:
        """Takes the descriptor over."""
        info = map_info(fd)
        size = info.value_size
        if info.type in PER_CPU:
            size = (size + 7) // 8 * 8 * cpus()
        return cls(fd, info.id, info.name.decode(), info.key_size, size, info.max_entries)

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def get(self, key: bytes) -> bytes | None:
        value = ct.create_string_buffer(self.value_size)
        if bcc.bpf_lookup_elem(self.fd, self._key(key), value) < 0:
            self._failed("reading", harmless=errno.ENOENT)
            return None
        return value.raw

    def put(self, key: bytes, value: bytes) -> None:
        """Raises OSError: E2BIG when the map is full."""
        if len(value) != self.value_size:
            raise ValueError(f"map {self.name}: a value has {self.value_size} bytes, not {len(value)}")
        if bcc.bpf_update_elem(self.fd, self._key(key), value, 0) < 0:
            if ct.get_errno() == errno.E2BIG:
                raise OSError(errno.E2BIG, f"map {self.name} is full: {self.max_entries} entries")
            self._failed("writing")

    def delete(self, key: bytes) -> None:
        """Nothing when it is not there."""
        if bcc.bpf_delete_elem(self.fd, self._key(key)) < 0:
            self._failed("deleting from", harmless=errno.ENOENT)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything, in as many calls as it takes. What is put or deleted meanwhile may or may not be among it."""
        room, here, more = min(self.max_entries, BATCH), None, True
        while more:
            keys, values = (ct.create_string_buffer(size * room) for size in (self.key_size, self.value_size))
            count, after = ct.c_uint32(room), (ct.c_uint32 * (self.key_size // 4 + 1))()
            if bcc.bpf_lookup_batch(self.fd, here, after, keys, values, ct.byref(count)) < 0:
                if ct.get_errno() == errno.ENOSPC:
                    room *= 2
                    continue
                self._failed("reading", harmless=errno.ENOENT)
                more = False
            here = after
            yield from zip(
                pieces(keys.raw, self.key_size, count.value),
                pieces(values.raw, self.value_size, count.value),
                strict=True,
            )

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes, not {len(key)}")
        return key

    def _failed(self, what: str, *, harmless: int = 0) -> None:
        number = ct.get_errno()
        if number != harmless:
            raise OSError(number, f"{what} map {self.name}: {os.strerror(number)}")


def pieces(whole: bytes, size: int, count: int) -> Iterator[bytes]:
    return (whole[n * size : (n + 1) * size] for n in range(count))


def cpus() -> int:
    """Possible CPUs, each of which has a value in a per-CPU map."""
    return call("counting CPUs", lib.libbpf_num_possible_cpus)


def map_info(fd: int) -> MapInfo:
    info = MapInfo()
    size = ct.c_uint32(ct.sizeof(info))
    call("reading a map's description", lib.bpf_obj_get_info_by_fd, fd, ct.byref(info), ct.byref(size))
    return info
