"""The last objects of the five watches on disk: with the API server down, a restarted agent restores everything.

One SQLite file, so that what is there is of one instant, and a change costs what changed: a pod's start waits for its
entry to be there.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from tortie.nodeagent.adoption import KINDS, Object, Stream, Waiting

log = logging.getLogger(__name__)

T = TypeVar("T")
PAUSE = 0.02
"""Seconds between two writes, at least: what comes together is written together."""
SHARE = 0.05
"""Share of the time that writing may take: the first list of 100,000 endpoints is one write, not many."""
RETRY = 1.0
"""Seconds after which a write that failed is tried again."""

# A crash of this process loses nothing that is committed, a loss of power at most the last seconds.
SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS streams (kind TEXT PRIMARY KEY, position INTEGER, changed INTEGER);
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT, name TEXT, part TEXT, since INTEGER, body BLOB, PRIMARY KEY (kind, name, part)
);
"""
PARTS = ("adopted", "waiting", "refused")


class Kept(msgspec.Struct, Generic[T], omit_defaults=True):
    """One stream as it is kept."""

    position: int
    changed: int
    adopted: list[T] = []
    waiting: list[Waiting[T]] = []
    refused: list[Waiting[T]] = []


Row = tuple[str, str, str, int, bytes]
Key = tuple[str, str, str]
"""(kind, name, one of PARTS)."""


class Batch(msgspec.Struct):
    """What one write does."""

    streams: list[tuple[str, int, int]] = []
    rows: list[Row] = []
    removed: list[Key] = []
    written: dict[Key, Object | None] = {}
    """What `LastObjects` then knows to be on disk; None: nothing."""


def restored(kept: dict[str, Kept[Any]]) -> dict[str, Stream]:
    """Streams from what was kept. An object without what its stamp asks for (kept by another version, say) waits."""
    positions = {kind: file.position for kind, file in kept.items()}
    streams = {kind: Stream() for kind in KINDS}
    for kind, file in kept.items():
        stream = streams[kind]
        stream.position, stream.changed, stream.complete = file.position, file.changed, True
        for obj in file.adopted:
            holds = all(positions.get(k, 0) >= mark for k, mark in obj.spec.after.items() if k in KINDS)
            if holds:
                stream.adopted[obj.metadata.name] = obj
            else:
                stream.waiting[obj.metadata.name] = Waiting(obj, 1)
        stream.waiting |= {item.obj.metadata.name: item for item in file.waiting}
        stream.refused |= {item.obj.metadata.name: item for item in file.refused}
    return streams


class LastObjects:
    """The file of one node."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._written: dict[Key, Object] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._touched = self._flushed = 0
        """How many touches there were, and how many of them are on disk."""
        self._flush = asyncio.Event()
        self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        """A file that is none, or not ours, counts as absent and is logged."""
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            log.error("last objects are not readable", extra={"path": str(self._path), "error": str(error)})
            for file in self._path.parent.glob(f"{self._path.name}*"):
                file.unlink()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False)
        database.executescript(SCHEMA)
        database.execute("SELECT * FROM objects, streams LIMIT 1")
        return database

    def load(self) -> dict[str, Stream]:
        """What was kept. A kind of which something cannot be read counts as absent and is logged."""
        kept: dict[str, Kept[Any]] = {}
        for kind, position, changed in self._database.execute("SELECT kind, position, changed FROM streams"):
            if kind in KINDS:
                try:
                    kept[kind] = self._read(kind, Kept(position, changed))
                except msgspec.DecodeError as error:
                    log.error("last objects are not readable", extra={"kind": kind, "error": str(error)})
        return restored(kept)

    def _read(self, kind: str, kept: Kept[Any]) -> Kept[Any]:
        rows = self._database.execute("SELECT part, since, body FROM objects WHERE kind = ?", (kind,))
        for part, since, body in rows:
            obj = msgspec.json.decode(body, type=KINDS[kind])
            if part == "adopted":
                kept.adopted.append(obj)
            else:
                getattr(kept, part).append(Waiting(obj, since))
        return kept

    def touch(self, kind: str) -> None:
        self._dirty.add(kind)
        self._touched += 1
        self._wake.set()

    async def saved(self) -> None:
        """Returns once all that was touched before is on disk."""
        goal = self._touched
        while self._flushed < goal:
            await self._flush.wait()

    async def run(self, streams: dict[str, Stream]) -> None:
        """Write what was touched, for ever; once more when cancelled."""
        writing: asyncio.Future[bool] | None = None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                began, touched = time.monotonic(), self._touched
                batch = self._batch(streams)
                writing = asyncio.ensure_future(asyncio.to_thread(self._write, batch))
                if await asyncio.shield(writing):
                    self._done(batch, touched)
                    await asyncio.sleep(max(PAUSE, (time.monotonic() - began) / SHARE))
                else:
                    self._dirty |= {kind for kind, *_ in batch.streams}
                    self._wake.set()
                    await asyncio.sleep(RETRY)
        finally:
            if writing:
                await asyncio.wait([writing])
            self.save(streams)
            self._database.close()

    def save(self, streams: dict[str, Stream]) -> None:
        """Write all that was touched, now."""
        self._write(self._batch(streams))

    def _done(self, batch: Batch, touched: int) -> None:
        for key, obj in batch.written.items():
            if obj is None:
                self._written.pop(key, None)
            else:
                self._written[key] = obj
        self._flushed = touched
        self._flush.set()
        self._flush = asyncio.Event()

    def _batch(self, streams: dict[str, Stream]) -> Batch:
        """What was touched and differs from what was written: records are immutable, so identity tells."""
        batch, kinds = Batch(), self._dirty
        self._dirty = set()
        for kind in kinds:
            stream = streams[kind]
            if not stream.complete:
                continue
            batch.streams.append((kind, stream.position, stream.changed))
            present: dict[Key, tuple[Object, int]] = {}
            for part, name, obj, since in parts(stream):
                present[kind, name, part] = obj, since
            for key, (obj, since) in present.items():
                if self._written.get(key) is not obj:
                    batch.rows.append((*key, since, msgspec.json.encode(obj)))
                    batch.written[key] = obj
            for key in self._written:
                if key[0] == kind and key not in present:
                    batch.removed.append(key)
                    batch.written[key] = None
        return batch

    def _write(self, batch: Batch) -> bool:
        try:
            with self._database as database:
                fresh = [kind for kind, *_ in batch.streams if not any(key[0] == kind for key in self._written)]
                database.executemany("DELETE FROM objects WHERE kind = ?", [(kind,) for kind in fresh])
                database.executemany("DELETE FROM objects WHERE kind = ? AND name = ? AND part = ?", batch.removed)
                database.executemany("REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", batch.rows)
                database.executemany("REPLACE INTO streams VALUES (?, ?, ?)", batch.streams)
        except sqlite3.Error as error:
            log.error("last objects are not written", extra={"path": str(self._path), "error": str(error)})
            return False
        return True


def parts(stream: Stream) -> Iterator[tuple[str, str, Object, int]]:
    """(part, name, object, since when it waits) of everything in a stream."""
    for name, obj in stream.adopted.items():
        yield "adopted", name, obj, 0
    for part, waiting in (("waiting", stream.waiting), ("refused", stream.refused)):
        for name, item in waiting.items():
            yield part, name, item.obj, item.since
