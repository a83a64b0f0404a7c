"""The life of a process of ours: it ends in order when told to, and can tell whether its event loop runs."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

LOOP_MAY_TAKE = 10.0
"""Seconds within which a live event loop answers."""


class Heart:
    """Beats while the event loop runs."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def run(self) -> None:
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(1.0)

    def stopped(self) -> str | None:
        """For /livez: None while it beats, else for how long it has not."""
        silent = time.monotonic() - self._last
        return f"the event loop has not answered for {silent:.0f} s" if silent > LOOP_MAY_TAKE else None


async def until_stopped(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until SIGTERM or SIGINT; what one of them raises ends all."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        await stopped.wait()
        log.info("stopping")
        for task in tasks:
            task.cancel()
