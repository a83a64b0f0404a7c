"""One kind as a stream of changes: list, then watch, for ever and without a hole."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec
from prometheus_client import Counter

from tortie.api.meta import Metadata, Record
from tortie.kube.backoff import Backoff
from tortie.kube.client import Client, HasMetadata, Resource
from tortie.kube.errors import ApiError, Expired, NotFound, Status

log = logging.getLogger(__name__)

T = TypeVar("T", bound=HasMetadata)
D = TypeVar("D")

EVENTS = Counter("tortie_watch_events", "Watch events, bookmarks included", ["kind"])
RESTARTS = Counter("tortie_watch_restarts", "Ends of watches and of attempts to open one", ["kind", "reason"])
FAILURES = Counter("tortie_watch_decode_failures", "Objects that could not be decoded and were passed over", ["kind"])

SECONDS = (300, 600)
"""The API server is asked to end a watch after a time between these, so that watches spread over its replicas."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between two attempts to watch."""
SETTLED = 5.0
"""Seconds after which a watch that said nothing was a good one all the same: then the pause is the first again."""


@dataclass(frozen=True)
class Put(Generic[T]):
    """Added or modified."""

    key: str
    obj: T
    version: int


@dataclass(frozen=True)
class Gone(Generic[T]):
    """Deleted; `obj` as it was last, None if that could not be decoded (then perhaps no Put went before)."""

    key: str
    obj: T | None
    version: int


@dataclass(frozen=True)
class Bookmark:
    """Everything up to `version` has been said."""

    version: int


@dataclass(frozen=True)
class Replaced(Generic[T]):
    """A complete list: what it does not name is gone.

    `rewound`: it is older than something already seen, so etcd was restored and versions count anew.
    """

    objects: Mapping[str, T]
    version: int
    rewound: bool


Change = Put[T] | Gone[T] | Bookmark | Replaced[T]


class _Event(msgspec.Struct):
    """`metav1.WatchEvent`: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and an object, still encoded."""

    type: str
    object: msgspec.Raw


class _Bare(Record):
    """As much of any object as says which it is and how new."""

    metadata: Metadata


_event = msgspec.json.Decoder(_Event)
_bare = msgspec.json.Decoder(_Bare)
_status = msgspec.json.Decoder(Status)


class Informer(Generic[T]):
    """Tells `listener` all that happens to a kind, in order; keeps no objects itself.

    An object that cannot be decoded is logged, counted and passed over: no Put, and absent from Replaced. What
    `listener` raises ends `run`; what the API server does never does.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        record: type[T],
        *,
        listener: Callable[[Change[T]], None],
        namespace: str = "",
        fields: str = "",
        labels: str = "",
        name: str = "",
    ) -> None:
        self.connected = False
        """A watch is open."""
        self.synced = False
        """The first Replaced has been delivered."""
        self.absent = False
        """The API server does not serve the kind; whether it has begun to is asked again and again."""
        self.last_event = time.monotonic()
        """When the API server last said anything, bookmarks included."""
        self._client = client
        self._resource = resource
        self._decoder = msgspec.json.Decoder(record)
        self._listener = listener
        self._selection = {"namespace": namespace, "fields": fields, "labels": labels}
        self._name = name or resource.plural
        self._version = 0
        """Up to where everything has been said; the highest version that was ever seen."""
        self._resumable = False
        """The next watch begins at `_version`; otherwise there is to be a list first."""
        self._rewound = False
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._events = EVENTS.labels(self._name)

    async def run(self) -> None:
        """For ever, until cancelled."""
        while True:
            reason, message = "ended", ""
            try:
                if self._resumable:
                    await self._check()
                if not self._resumable:
                    await self._list()
                await self._watch()
            except Expired as error:
                self._resumable = False
                reason, message = "expired", str(error)
            except ApiError as error:
                self.absent = isinstance(error, NotFound)
                reason = "stalled" if self.connected and error.reason == "Timeout" else "failed"
                message = str(error)
            finally:
                self.connected = False
            RESTARTS.labels(self._name, reason).inc()
            level = logging.DEBUG if reason == "ended" else logging.WARNING
            log.log(level, "watch %s", reason, extra={"kind": self._name, "error": message})
            await asyncio.sleep(self._backoff.pause())

    async def _check(self) -> None:
        """Whether the API server has got as far as we have.

        If etcd was restored it has not, and would let a watch from the future wait in silence until it has, dropping
        what happens until then. What was written since may carry versions beyond ours: that nobody can see, and
        etcd's documentation has one restore with --bump-revision for it.
        """
        page = await self._client.page(self._resource, **self._selection, limit=1)
        if page.version < self._version:
            self._rewound = True
            self._resumable = False

    async def _list(self) -> None:
        """A consistent list in pages, of which one at a time is held encoded."""
        objects: dict[str, T] = {}
        version = 0
        async for page in self._client.pages(self._resource, **self._selection):
            for item in page.items or ():
                if (obj := self._decoded(item)) is not None:
                    objects[obj.metadata.key] = obj
            version = page.version
        rewound = self._rewound or version < self._version
        self._version, self._resumable, self._rewound = version, True, False
        self.last_event = time.monotonic()
        self._listener(Replaced(objects, version, rewound))
        self.synced, self.absent = True, False

    async def _watch(self) -> None:
        """Until the API server ends it."""
        seconds = random.randint(*SECONDS)
        async with self._client.watch(self._resource, self._version, **self._selection, seconds=seconds) as batches:
            self.connected = True
            opened = time.monotonic()
            try:
                async for lines in batches:
                    self.last_event = time.monotonic()
                    self._events.inc(len(lines))
                    for line in lines:
                        self._take(line)
                    self._backoff.reset()
            finally:
                if time.monotonic() - opened >= SETTLED:
                    self._backoff.reset()

    def _take(self, line: bytes) -> None:
        event = _certain(_event, line)
        if event.type == "BOOKMARK":
            self._version = _certain(_bare, event.object).metadata.version
            self._listener(Bookmark(self._version))
        elif event.type == "ERROR":
            raise _certain(_status, event.object).error()
        else:
            self._tell(event)

    def _tell(self, event: _Event) -> None:
        obj = self._decoded(event.object)
        metadata = _certain(_bare, event.object).metadata if obj is None else obj.metadata
        self._version = metadata.version
        if event.type == "DELETED":
            self._listener(Gone(metadata.key, obj, self._version))
        elif obj is not None:
            self._listener(Put(metadata.key, obj, self._version))

    def _decoded(self, raw: msgspec.Raw) -> T | None:
        try:
            return self._decoder.decode(raw)
        except msgspec.DecodeError as error:
            FAILURES.labels(self._name).inc()
            log.error("object passed over", extra={"kind": self._name, "key": _key(raw), "error": str(error)})
            return None


def _key(raw: msgspec.Raw) -> str:
    """For people; the object itself may hold what does not belong into a log."""
    try:
        return _bare.decode(raw).metadata.key
    except msgspec.DecodeError:
        return ""


def _certain(decoder: msgspec.json.Decoder[D], raw: bytes | msgspec.Raw) -> D:
    """What the rest of a watch cannot be understood without."""
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise ApiError(200, "Undecodable", f"watch event: {error}") from None
