"""One at a time per key, in the order of asking."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Turns:
    """`async with turns(key):` — a key that nobody holds or waits for costs nothing."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, key: object) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())
