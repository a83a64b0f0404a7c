"""The maps that policy is in, open: arrays as memory, hashes by batches."""

from __future__ import annotations

import contextlib
import ctypes as ct
import mmap
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from tortie.nodeagent.maps.layout import POLICY_ARRAYS, POLICY_HASHES, RULES, SWITCH
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.maps.table import Table
from tortie.nodeagent.policy.writes import Delete, Fence, Put, Store, Write

_libc = ct.CDLL(None, use_errno=True)
MEMBARRIER = {"x86_64": 324, "aarch64": 283}
GLOBAL = 1
"""MEMBARRIER_CMD_GLOBAL: synchronize_rcu()."""
LONGEST = 1.0
"""Seconds that no program takes for a packet."""


class PolicyMaps:
    """Raises FileNotFoundError while the programs are not loaded yet."""

    def __init__(self, pins: Pins) -> None:
        with contextlib.ExitStack() as opening:
            tables = {name: opening.enter_context(pins.table(name)) for name in (*POLICY_ARRAYS, *POLICY_HASHES, RULES)}
            self._stack = opening.pop_all()
        self.tables: dict[str, Table] = tables
        self.ids = {name: table.id for name, table in tables.items()}
        self._sizes = {name: (tables[name].value_size + 7) // 8 * 8 for name in POLICY_ARRAYS}

    def close(self) -> None:
        self._stack.close()

    def hashes(self) -> dict[str, dict[bytes, bytes]]:
        return {name: dict(self.tables[name].items()) for name in POLICY_HASHES}

    @contextlib.contextmanager
    def arrays(self) -> Iterator[Mapping[str, mmap.mmap]]:
        """By name. Not for ever: 30 MiB of the kernel's would count as the agent's."""
        with contextlib.ExitStack() as stack:
            yield {name: stack.enter_context(contextlib.closing(self.tables[name].memory())) for name in POLICY_ARRAYS}

    def in_force(self) -> bytes:
        """Value of the map `switch`."""
        return self.tables[SWITCH].get(bytes(4)) or b""

    def make(self, writes: Iterable[Write]) -> None:
        """In their order. Raises OSError."""
        for (kind, name), some in groupby(writes, lambda write: (type(write), getattr(write, "map", ""))):
            if kind is Put:
                self._put(name, (write for write in some if isinstance(write, Put)))
            elif kind is Store:
                self._store(name, (write for write in some if isinstance(write, Store)))
            else:
                for write in some:
                    self._make(write)

    def _put(self, name: str, writes: Iterator[Put]) -> None:
        table = self.tables[name]
        zero = bytes(table.value_size)
        table.put_all({write.key: write.value or zero for write in writes})

    def _store(self, name: str, writes: Iterator[Store]) -> None:
        """SWITCH's u64 goes in one piece: it is copied as one."""
        with contextlib.closing(self.tables[name].memory()) as memory:
            for write in writes:
                start = write.index * self._sizes[name]
                memory[start : start + len(write.data)] = write.data

    def _make(self, write: Write) -> None:
        match write:
            case Delete(name, key):
                self.tables[name].delete(key)
            case Fence():
                fence()


def fence() -> None:
    """Until every program that runs now has ended: programs run under RCU."""
    number = MEMBARRIER.get(platform.machine())
    if number is None or _libc.syscall(ct.c_long(number), ct.c_int(GLOBAL), ct.c_uint(0), ct.c_int(0)) < 0:
        time.sleep(LONGEST)  # kernels with nohz_full refuse
