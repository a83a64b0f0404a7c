"""Which version of each object rules on this node. Pure: events of five streams in, adopted objects out.

The streams are not in step. An object with a stamp (`spec.after`) is adopted once the streams it names have passed it
*and* nothing of theirs up to the stamp still waits; objects that wait for each other are adopted together. Until then
the version before it rules; no time-out opens anything. A deletion takes effect at once: it is written after the last
use was (rule 6), and whatever refers to something absent fails closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from tortie.api.internal import (
    FORMAT,
    CompiledNetworkSet,
    CompiledPolicy,
    CompiledTier,
    NodePeer,
    NodeState,
)

Object = NodeState | NodePeer | CompiledTier | CompiledPolicy | CompiledNetworkSet
T = TypeVar("T")

KINDS: dict[str, type[Object]] = {
    "nodestates": NodeState,
    "compiledtiers": CompiledTier,
    "compiledpolicies": CompiledPolicy,
    "compilednetworksets": CompiledNetworkSet,
    "nodepeers": NodePeer,
}
"""Plural → record of the five streams."""


@dataclass(frozen=True)
class Put:
    obj: Object
    version: int


@dataclass(frozen=True)
class Gone:
    key: str
    version: int


@dataclass(frozen=True)
class Passed:
    """A bookmark: everything up to `version` has been sent."""

    version: int


@dataclass(frozen=True)
class Listed:
    """A complete list. `rewound`: older than something already seen, so etcd was restored."""

    objects: Mapping[str, Object]
    version: int
    rewound: bool = False


Event = Put | Gone | Passed | Listed


class Waiting(msgspec.Struct, Generic[T], frozen=True):
    """The newest version of an object, not adopted yet."""

    obj: T
    since: int
    """Lowest resourceVersion at which it may have begun to differ from the version that rules."""


@dataclass(frozen=True)
class Change:
    """What rules has changed: from `before` to `after`, either of them None. Both None: everything may have."""

    kind: str
    before: Object | None
    after: Object | None


@dataclass
class Stream:
    """One kind: how far its watch has come, what rules and what waits."""

    position: int = 0
    changed: int = 0
    """`position` at the last event that changed an object: what is reported, so that a bookmark causes no report."""
    complete: bool = False
    """Loaded from disk or listed: the picture of this kind has no holes."""
    adopted: dict[str, Object] = field(default_factory=dict)
    waiting: dict[str, Waiting[Object]] = field(default_factory=dict)
    refused: dict[str, Waiting[Object]] = field(default_factory=dict)
    """In no format that this agent knows; the version before, if there is one, rules."""

    def settled(self) -> int:
        """Up to which resourceVersion everything rules."""
        later = [*self.waiting.values(), *self.refused.values()]
        return min([self.changed, *(item.since - 1 for item in later)])

    def newest(self, key: str) -> Object | None:
        for pending in (self.refused, self.waiting):
            if key in pending:
                return pending[key].obj
        return self.adopted.get(key)

    def keys(self) -> set[str]:
        return {*self.adopted, *self.waiting, *self.refused}


def same(one: Object | None, other: Object) -> bool:
    """Whether two versions mean the same: our own report changes NodeState's status and nothing else."""
    return one is not None and one.spec == other.spec and one.metadata.generation == other.metadata.generation


def foreign(obj: Object) -> bool:
    """In a format more than one version from ours (rule 11)."""
    return abs(obj.spec.format - FORMAT) > 1


class Adoption:
    """The five streams of one node."""

    def __init__(self, streams: dict[str, Stream] | None = None) -> None:
        self.streams = streams or {kind: Stream() for kind in KINDS}
        self.changes: list[Change] = []
        """Of what rules, since the caller last emptied it."""
        self._restored: dict[str, Listed | None] | None = None
        """After a rewound list: the fresh lists of all kinds that have come so far."""

    @property
    def complete(self) -> bool:
        return all(stream.complete for stream in self.streams.values())

    @property
    def restoring(self) -> bool:
        """Waiting for fresh lists of all kinds after a rewound one; what ruled before still does."""
        return self._restored is not None

    def take(self, kind: str, event: Event) -> bool:
        """Fold one event in. True: the list was rewound, and the caller must list *all other* kinds anew."""
        stream = self.streams[kind]
        if isinstance(event, Listed):
            return self._listed(kind, event)
        if self._restored is not None:
            self._during_restore(kind, event)
            return False
        stream.position = max(stream.position, event.version)
        if isinstance(event, Put):
            self._put(stream, event.obj, event.version)
        elif isinstance(event, Gone):
            self._gone(kind, event.key)
        if any(each.waiting for each in self.streams.values()):
            self._settle()
        return False

    def waits(self) -> Iterator[tuple[str, str, dict[str, int]]]:
        """(plural, key, what of its stamp its streams have not passed or adopted yet)."""
        for kind, stream in self.streams.items():
            for key, item in stream.waiting.items():
                after = item.obj.spec.after
                yield kind, key, {k: v for k, v in after.items() if k in self.streams and not self._passed(k, v)}

    def _passed(self, kind: str, mark: int) -> bool:
        stream = self.streams[kind]
        return stream.position >= mark and all(item.since > mark for item in stream.waiting.values())

    def _put(self, stream: Stream, obj: Object, since: int) -> None:
        key = obj.metadata.name
        if same(stream.newest(key), obj):
            return
        stream.changed = stream.position
        pending = stream.waiting.pop(key, None) or stream.refused.pop(key, None)
        item = Waiting(obj, pending.since if pending else since)
        (stream.refused if foreign(obj) else stream.waiting)[key] = item

    def _gone(self, kind: str, key: str) -> None:
        stream = self.streams[kind]
        stream.changed = stream.position
        stream.refused.pop(key, None)
        stream.waiting.pop(key, None)
        before = stream.adopted.pop(key, None)
        if before is not None:
            self.changes.append(Change(kind, before, None))

    def _listed(self, kind: str, event: Listed) -> bool:
        stream = self.streams[kind]
        if self._restored is not None:
            again = event.rewound and self._restored[kind] is not None
        else:
            again = event.rewound or event.version < stream.position
        if again:
            self._restored = dict.fromkeys(KINDS)
        if self._restored is not None:
            self._restored[kind] = event
            self._restore()
            return again
        since = stream.position + 1
        stream.position = event.version
        if not stream.complete:
            stream.complete, stream.changed = True, event.version
        for obj in event.objects.values():
            self._put(stream, obj, since)
        for key in stream.keys() - event.objects.keys():
            self._gone(kind, key)
        self._settle()
        return False

    def _during_restore(self, kind: str, event: Put | Gone | Passed) -> None:
        """Events on top of a fresh list go into it; those of a stream not listed yet are of a past that was undone."""
        fresh = self._restored[kind] if self._restored else None
        if fresh is None or self._restored is None:
            return
        objects = dict(fresh.objects)
        if isinstance(event, Put):
            objects[event.obj.metadata.name] = event.obj
        elif isinstance(event, Gone):
            objects.pop(event.key, None)
        self._restored[kind] = Listed(objects, max(fresh.version, event.version))

    def _restore(self) -> None:
        """Once all lists are there: forget the marks and adopt them at once."""
        lists = self._restored or {}
        if any(listed is None for listed in lists.values()):
            return
        self._restored = None
        for kind, listed in lists.items():
            assert listed is not None
            stream = Stream(listed.version, listed.version, complete=True)
            for key, obj in listed.objects.items():
                if foreign(obj):
                    stream.refused[key] = Waiting(obj, 1)
                else:
                    stream.adopted[key] = obj
            self.streams[kind] = stream
            self.changes.append(Change(kind, None, None))

    def _settle(self) -> None:
        """Adopt the largest set of waiting objects whose stamps hold if all of them are adopted together."""
        ready = {
            (kind, key): item
            for kind, stream in self.streams.items()
            for key, item in stream.waiting.items()
            if all(self.streams[k].position >= mark for k, mark in item.obj.spec.after.items() if k in self.streams)
        }
        while ready:
            blocked = {
                kind: min((i.since for key, i in stream.waiting.items() if (kind, key) not in ready), default=None)
                for kind, stream in self.streams.items()
            }
            held = [
                name
                for name, item in ready.items()
                if any((b := blocked.get(k)) is not None and b <= mark for k, mark in item.obj.spec.after.items())
            ]
            if not held:
                break
            for name in held:
                del ready[name]
        for (kind, key), item in ready.items():
            stream = self.streams[kind]
            del stream.waiting[key]
            self.changes.append(Change(kind, stream.adopted.get(key), item.obj))
            stream.adopted[key] = item.obj
