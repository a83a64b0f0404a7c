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
        self._shelves: dict[Shelf | None, set[K]] = {}

    def put(self, key: K, selector: Selector) -> None:
        self.remove(key)
        self._selectors[key] = selector
        for shelf in _shelves(selector):
            self._shelves.setdefault(shelf, set()).add(key)

    def remove(self, key: K) -> None:
        selector = self._selectors.pop(key, None)
        for shelf in _shelves(selector) if selector else ():
            keys = self._shelves[shelf]
            keys.discard(key)
            if not keys:
                del self._shelves[shelf]

    def matching(self, labels: Labels) -> Iterator[K]:
        shelves: list[Shelf | None] = [None]
        for label, value in labels.items():
            shelves += (label, value), (label, None)
        for shelf in shelves:
            for key in self._shelves.get(shelf, ()):
                if self._selectors[key].matches(labels):
                    yield key


def _shelves(selector: Selector) -> list[Shelf | None]:
    """Where a selector is filed: of no two shelves do any labels have both. None: on none in particular."""
    found = restrictions(selector)
    if found is None:
        return []
    best = _narrowest({key: each for key, each in found.items() if each.present})
    if best is None:
        return [None]
    key, values = best
    return [(key, None)] if values is None else [(key, value) for value in sorted(values)]


def _narrowest(found: Mapping[str, Restriction]) -> tuple[str, frozenset[str] | None] | None:
    """The label with the fewest values, else any label that must be there; ties by name."""
    few = [(len(each.values), key, each.values) for key, each in found.items() if each.values is not None]
    if few:
        _, key, values = min(few, key=lambda entry: entry[:2])
        return key, values
    return (min(found), None) if found else None


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
