"""Dead entries of the connection table go: programs take no notice of them, but they take room."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from prometheus_client import Gauge

from tortie.nodeagent.maps.layout import CONN, CONNS
from tortie.nodeagent.maps.pins import Pins
from tortie.nodeagent.maps.table import Table, pieces

CONNECTIONS = Gauge("tortie_connections", "Entries of the connection table at its last sweep")

GRACE = 5.0
"""Seconds after its end for which an entry is left alone, so that none goes that a packet is just bringing to life."""
SLOWEST, FASTEST = 10.0, 1.0
"""Seconds between two sweeps of an empty table and of one that is half full."""


class Sweep:
    def __init__(self, bpffs: Path) -> None:
        self._pins = Pins(bpffs)

    async def run(self) -> None:
        """For ever; the faster the fuller the table is."""
        while True:
            try:
                with self._pins.table(CONNS) as table:
                    left = await swept(table)
                    most = table.max_entries
            except FileNotFoundError:  # the programs are not loaded yet
                left, most = 0, 1
            CONNECTIONS.set(left)
            await asyncio.sleep(max(FASTEST, SLOWEST * (1 - 2 * left / most)))


async def swept(table: Table) -> int:
    """How many are left."""
    ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(GRACE * 1e9)
    left = 0
    for keys, values, count in table.batches():
        expires = memoryview(values).cast("Q")[:: CONN.size // 8]  # the first field
        dead = [number for number in range(count) if expires[number] < ended]
        if dead:
            every = list(pieces(keys, table.key_size, count))
            table.delete_all([every[number] for number in dead])
        left += count - len(dead)
        await asyncio.sleep(0)
    return left
