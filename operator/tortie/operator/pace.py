"""A limit on writes by what they cost everybody: each is one event on every node."""

from __future__ import annotations

import asyncio
import time

EVENTS_PER_SECOND = 100_000
"""Watch events that an API server may have to send because of us: writes a second by nodes."""
BURST = 1.0
"""Seconds' worth of writes that may come at once."""


class Pace:
    def __init__(self) -> None:
        self._ready = 0.0
        """When the next write would be on time (monotonic seconds)."""

    async def take(self, nodes: int) -> None:
        """Wait until one more write may be sent that `nodes` nodes watch."""
        now = time.monotonic()
        self._ready = max(self._ready, now - BURST) + max(nodes, 1) / EVENTS_PER_SECOND
        if self._ready > now:
            await asyncio.sleep(self._ready - now)
