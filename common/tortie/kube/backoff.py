"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `first` to `most` seconds, with jitter, so that 5,000 agents do not come back together."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._next = first

    def pause(self) -> float:
        """Seconds to wait now."""
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._most)
        return pause

    def reset(self) -> None:
        self._next = self._first
