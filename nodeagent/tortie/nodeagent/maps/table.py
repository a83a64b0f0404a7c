"""Access to one map, over bcc's library. Keys and values are bytes; `layout` says what they mean.

libbcc_bpf is the part of bcc that knows maps; its Python package would load the other, which holds a compiler: 12 MiB.
"""

from __future__ import annotations

import ctypes as ct
import errno
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tortie.nodeagent.maps.libbpf import MapInfo, call, lib, opened

bcc = ct.CDLL("libbcc_bpf.so.0", use_errno=True)
_SIGNATURES: dict[str, list[Any]] = {
    "bpf_lookup_elem": [ct.c_int, ct.c_char_p, ct.c_void_p],
    "bpf_update_elem": [ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_ulonglong],
    "bpf_delete_elem": [ct.c_int, ct.c_char_p],
    "bpf_lookup_batch": [ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_void_p, ct.c_void_p, ct.c_void_p],
    "bpf_update_batch": [ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_void_p],
    "bpf_delete_batch": [ct.c_int, ct.c_char_p, ct.c_void_p],
}
for _name, _arguments in _SIGNATURES.items():
    _function = getattr(bcc, _name)
    _function.restype, _function.argtypes = ct.c_int, _arguments

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

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """The same for many, in one call; on an error some of them may have been put."""
        keys, values, count = b"".join(entries), b"".join(entries.values()), ct.c_uint32(len(entries))
        if len(keys) != self.key_size * len(entries) or len(values) != self.value_size * len(entries):
            raise ValueError(f"map {self.name}: keys have {self.key_size} bytes, values {self.value_size}")
        if entries and bcc.bpf_update_batch(self.fd, keys, values, ct.byref(count)) < 0:
            if ct.get_errno() == errno.E2BIG:
                raise OSError(errno.E2BIG, f"map {self.name} is full: {self.max_entries} entries")
            self._failed("writing")

    def memory(self) -> mmap.mmap:
        """All values of an array that may be mapped (BPF_F_MMAPABLE), each padded to 8 bytes."""
        return mmap.mmap(self.fd, self.max_entries * ((self.value_size + 7) // 8 * 8))

    def delete_all(self, keys: Sequence[bytes]) -> None:
        """Those that are there."""
        rest = list(keys)
        while rest:
            count = ct.c_uint32(len(rest))
            if bcc.bpf_delete_batch(self.fd, b"".join(map(self._key, rest)), ct.byref(count)) >= 0:
                return
            self._failed("deleting from", harmless=errno.ENOENT)
            rest = rest[count.value + 1 :]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Everything, in as many calls as it takes. What is put or deleted meanwhile may or may not be among it."""
        for keys, values, count in self.batches():
            yield from zip(
                pieces(keys, self.key_size, count),
                pieces(values, self.value_size, count),
                strict=True,
            )

    def batches(self) -> Iterator[tuple[bytes, bytes, int]]:
        """The same as keys and values one after the other, and how many these are."""
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
            yield keys.raw, values.raw, count.value

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
