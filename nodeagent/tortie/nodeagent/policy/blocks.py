"""Which numbers of a map are free."""

from __future__ import annotations

import bisect


class Full(Exception):
    """No room in a map; the message names it."""


class Blocks:
    """Runs of numbers from `first` up to `size`, lowest free ones first."""

    def __init__(self, name: str, first: int, size: int) -> None:
        self.name = name
        self.size = size
        self.free = [(first, size)]
        """(start, end), in order, never adjacent."""

    def take(self, count: int) -> int:
        """Raises Full."""
        for index, (start, end) in enumerate(self.free):
            if end - start >= count:
                self.free[index : index + 1] = [(start + count, end)] if end - start > count else []
                return start
        raise Full(f"map {self.name} is full: {self.size} entries")

    def reserve(self, start: int, count: int) -> None:
        """What is in use already; parts may have been reserved before."""
        end, kept = start + count, []
        for first, last in self.free:
            kept += [(a, b) for a, b in ((first, min(last, start)), (max(first, end), last)) if a < b]
        self.free = kept

    def give(self, start: int, count: int) -> None:
        index = bisect.bisect(self.free, (start, start))
        end = start + count
        if index < len(self.free) and self.free[index][0] == end:
            end = self.free.pop(index)[1]
        if index and self.free[index - 1][1] == start:
            index -= 1
            start = self.free.pop(index)[0]
        self.free.insert(index, (start, end))
