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
    """Fed by a watch, and by the answers to our own writes, which are ahead of it.

    What a write removed must not come back when the watch tells of an older version: its last version is remembered
    until the watch tells of the deletion, too.
    """

    def __init__(self) -> None:
        self._objects: dict[str, T] = {}
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

    def put(self, obj: T) -> bool:
        """True if this is news."""
        key, version = obj.metadata.key, obj.metadata.version
        known = self._objects.get(key)
        if version <= self._removed.get(key, -1) or (known is not None and version <= known.metadata.version):
            return False
        self._removed.pop(key, None)
        self._objects[key] = obj
        return True

    def remove(self, key: str) -> None:
        """We had it deleted."""
        known = self._objects.pop(key, None)
        if known is not None:
            self._removed[key] = known.metadata.version

    def gone(self, key: str, version: int) -> bool:
        """The watch tells of a deletion. True if this is news: the object is not a newer one of that name."""
        self._removed.pop(key, None)
        known = self._objects.get(key)
        if known is None or known.metadata.version > version:
            return False
        del self._objects[key]
        return True

    def replace(self, objects: Mapping[str, T], version: int) -> set[str]:
        """A complete list, as of `version`. Returns the keys that changed."""
        changed = {key for key, obj in objects.items() if self.put(obj)}
        for key in self.keys() - objects.keys():
            if self.gone(key, version):
                changed.add(key)
        self._removed = {key: last for key, last in self._removed.items() if last > version}
        return changed
