"""An event loop whose time passes only when nothing else is left to do: hours in milliseconds, always the same way."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
import pytest

import tortie.operator.main  # noqa: F401 - all that is patched below is loaded by then

T = TypeVar("T")

TIMED = [m for name, m in sys.modules.items() if name.startswith("tortie.") and getattr(m, "time", None) is time]
"""Our modules that read the clock."""


decoder = lru_cache(msgspec.json.Decoder)


class VirtualLoop(asyncio.BaseEventLoop):
    """No sockets, no threads, no signals: only callbacks and timers. Its own selector."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self.now = 1_000.0

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> tuple[()]:
        """What the base class waits in. None: no timer is set, so nothing can ever happen again."""
        if timeout is None:
            raise RuntimeError("all tasks wait for nothing")
        self.now += timeout
        return ()

    def _process_events(self, events: object) -> None:
        pass


@contextmanager
def virtual_time() -> Iterator[VirtualLoop]:
    """A loop of that kind, whose clock is what Tortie's modules know as `time`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.MonkeyPatch.context() as patch:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        clock = SimpleNamespace(monotonic=loop.time)
        for module in TIMED:
            patch.setattr(module, "time", clock)
        patch.setattr(msgspec.json, "Decoder", decoder)  # making one costs more than a whole run uses it
        yield loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work` in a loop of its own."""
    with virtual_time() as loop:
        return loop.run_until_complete(work)
