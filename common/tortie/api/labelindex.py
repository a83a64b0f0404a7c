"""Which selectors match which labels, among many of both: two indexes over label restrictions (Calico: labelindex).

Each entry is filed under the one restriction that promises the fewest candidates; what has none is looked at each time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from tortie.api.restrictions import Restriction, restrictions
from tortie.api.selector import Labels, Selector

K = TypeVar("K", bound=Hashable)

Shelf = tuple[str, str | None]
"""A label and its value; None: the label with any value."""


class SelectorIndex(Generic[K]):
    """Selectors by key; finds those that match given labels."""

    def __init__(self) -> None:
        self._selectors: dict[K, Selector] = {}
        self._filed: dict[K, list[Shelf | None]] = {}
        self._shelves: dict[Shelf | None, set[K]] = {}

    def put(self, key: K, selector: Selector) -> None:
        self.remove(key)
        self._selectors[key] = selector
        self._filed[key] = min(_places(selector), key=self._crowd)
        for shelf in self._filed[key]:
            self._shelves.setdefault(shelf, set()).add(key)

    def remove(self, key: K) -> None:
        self._selectors.pop(key, None)
        for shelf in self._filed.pop(key, ()):
            keys = self._shelves[shelf]
            keys.discard(key)
            if not keys:
                del self._shelves[shelf]

    def _crowd(self, place: list[Shelf | None]) -> int:
        """How many selectors lie there: `app == "web"` is in every namespace, a namespace is not in every policy."""
        return sum(len(self._shelves.get(shelf, ())) for shelf in place)

    def matching(self, labels: Labels) -> Iterator[K]:
        shelves: list[Shelf | None] = [None]
        for label, value in labels.items():
            shelves += (label, value), (label, None)
        for shelf in shelves:
            for key in self._shelves.get(shelf, ()):
                if self._selectors[key].matches(labels):
                    yield key


def _places(selector: Selector) -> list[list[Shelf | None]]:
    """Where a selector may be filed, each place a list of shelves of which no two are for the same labels. The label
    with the fewest values, or several that have as few; a label that must only be there if there is no such; None, on
    no shelf in particular, if there is neither; nowhere if it matches nothing."""
    found = restrictions(selector)
    if found is None:
        return [[]]
    present = {key: each.values for key, each in found.items() if each.present}
    few = {key: values for key, values in present.items() if values is not None}
    if few:
        least = min(map(len, few.values()))
        return [[(key, value) for value in sorted(few[key])] for key in sorted(few) if len(few[key]) == least]
    return [[(key, None)] for key in sorted(present)] or [[None]]


class LabelIndex(Generic[K]):
    """Labels by key; finds those that a selector matches."""

    def __init__(self) -> None:
        self._labels: dict[K, Labels] = {}
        self._shelves: dict[Shelf, set[K]] = {}

    def put(self, key: K, labels: Labels) -> None:
        self.remove(key)
        self._labels[key] = dict(labels)
        for label, value in labels.items():
            for shelf in ((label, value), (label, None)):
                self._shelves.setdefault(shelf, set()).add(key)

    def remove(self, key: K) -> None:
        for label, value in self._labels.pop(key, {}).items():
            for shelf in ((label, value), (label, None)):
                keys = self._shelves[shelf]
                keys.discard(key)
                if not keys:
                    del self._shelves[shelf]

    def matching(self, selector: Selector) -> Iterator[K]:
        found = restrictions(selector)
        if found is None:
            return
        for key in self._candidates({label: each for label, each in found.items() if each.present}):
            if selector.matches(self._labels[key]):
                yield key

    def _candidates(self, found: Mapping[str, Restriction]) -> set[K] | dict[K, Labels]:
        """The smallest set of keys that a restriction leaves; all if there is none."""
        sets: list[set[K]] = []
        for label, restriction in found.items():
            if restriction.values is None:
                sets.append(self._shelves.get((label, None), set()))
            else:
                sets.append(set().union(*(self._shelves.get((label, value), set()) for value in restriction.values)))
        return min(sets, key=len) if sets else self._labels
