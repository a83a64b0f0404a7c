"""The newest known version of each object of a kind, whatever order news of it comes in. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from tortie.api.meta import Metadata


class Versioned(Protocol):
    @property
    def metadata(self) -> Metadata: ...


T = TypeVar("T", bound=Versioned)


class Shelf(Generic[T]):
    """Fed by a watch, and by the answers to our own reads and writes, which come in any order with it.

    What is known to be gone must not come back with older news: a watch tells everything in order, so that an object
    unknown at a version that the watch has passed is gone; what a write removed ahead of the watch is remembered
    until the watch tells of it, too.
    """

    def __init__(self) -> None:
        self.newest = 0
        """Highest version of an object that was ever here."""
        self._objects: dict[str, T] = {}
        self._told = 0
        """Up to which version the watch (or a list) has told everything."""
        self._removed: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def get(self, key: str) -> T | None:
        return self._objects.get(key)

    def keys(self) -> set[str]:
        return set(self._objects)

    def put(self, obj: T, *, told: bool = False) -> bool:
        """True if this is news. `told`: a watch says so."""
        key, version = obj.metadata.key, obj.metadata.version
        known = self._objects.get(key)
        seen = known.metadata.version if known is not None else max(self._told, self._removed.get(key, 0))
        if told:
            self._told = max(self._told, version)
        if version <= seen:
            return False
        self._removed.pop(key, None)
        self._objects[key] = obj
        self.newest = max(self.newest, version)
        return True

    def remove(self, obj: T) -> bool:
        """We had it deleted, or were told that it is gone. True if this is news: what is known is no newer one."""
        key, known = obj.metadata.key, self._objects.get(obj.metadata.key)
        if known is None or known.metadata.version > obj.metadata.version:
            return False
        del self._objects[key]
        self._removed[key] = known.metadata.version
        return True

    def gone(self, key: str, version: int) -> bool:
        """The watch tells of a deletion. True if this is news: the object is not a newer one of that name."""
        self._told = max(self._told, version)
        if self._removed.get(key, 0) < version:
            self._removed.pop(key, None)
        known = self._objects.get(key)
        if known is None or known.metadata.version > version:
            return False
        del self._objects[key]
        return True

    def replace(self, objects: Mapping[str, T], version: int) -> set[str]:
        """A complete list, as of `version`. Returns the keys that changed."""
        changed = {key for key, obj in objects.items() if self.put(obj)}
        changed |= {key for key in self.keys() - objects.keys() if self.gone(key, version)}
        self._told = max(self._told, version)
        self._removed = {key: last for key, last in self._removed.items() if last > self._told}
        return changed
