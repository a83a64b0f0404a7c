"""The last objects of the five watches on disk: with the API server down, a restarted agent restores everything."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from tortie.nodeagent.adoption import KINDS, Object, Stream, Waiting
from tortie.nodeagent.files import replace_file

log = logging.getLogger(__name__)

T = TypeVar("T")
PAUSE = 1.0
"""Seconds between two writes, at least."""
SHARE = 0.02
"""Share of the time that writing may take: with 100,000 endpoints the copy is written less often, not all the time."""


class Kept(msgspec.Struct, Generic[T], omit_defaults=True):
    """One stream as a file."""

    position: int
    changed: int
    adopted: list[T]
    waiting: list[Waiting[T]] = []
    refused: list[Waiting[T]] = []


def restored(kept: dict[str, Kept[Any]]) -> dict[str, Stream]:
    """Streams from files. A crash between two files may leave an object without what its stamp asks for: it waits."""
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
    """The files of one state-dir, one a kind."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    def load(self) -> dict[str, Stream]:
        """What was kept. A file that cannot be read counts as absent and is logged."""
        kept: dict[str, Kept[Any]] = {}
        for kind, record in KINDS.items():
            try:
                content = self._path(kind).read_bytes()
                kept[kind] = msgspec.json.decode(content, type=Kept[record])  # type: ignore[valid-type]
            except FileNotFoundError:
                continue
            except (OSError, msgspec.DecodeError) as error:
                log.error("last objects are not readable", extra={"kind": kind, "error": str(error)})
        return restored(kept)

    def touch(self, kind: str) -> None:
        self._dirty.add(kind)
        self._wake.set()

    async def run(self, streams: dict[str, Stream]) -> None:
        """Write what was touched, for ever; once more when cancelled."""
        writing: asyncio.Future[None] | None = None
        try:
            while True:
                await self._wake.wait()
                began = time.monotonic()
                writing = asyncio.ensure_future(asyncio.to_thread(self._write, self._encode(streams)))
                await asyncio.shield(writing)
                await asyncio.sleep(max(PAUSE, (time.monotonic() - began) / SHARE))
        finally:
            if writing:
                await asyncio.wait([writing])
            self._write(self._encode(streams))

    def _encode(self, streams: dict[str, Stream]) -> dict[str, bytes]:
        """All touched kinds as they are at this instant, in the order of KINDS: NodePeers come last, so that a crash
        between two files leaves older peers with newer policies and not the other way round."""
        self._wake.clear()
        found = {}
        for kind in KINDS:
            stream = streams[kind]
            if kind in self._dirty and stream.complete:
                kept: Kept[Object] = Kept(
                    stream.position,
                    stream.changed,
                    list(stream.adopted.values()),
                    list(stream.waiting.values()),
                    list(stream.refused.values()),
                )
                found[kind] = msgspec.json.encode(kept)
        self._dirty.clear()
        return found

    def _write(self, files: dict[str, bytes]) -> None:
        for kind, content in files.items():
            try:
                replace_file(self._path(kind), content, durable=True)
            except OSError as error:
                log.error("last objects are not written", extra={"kind": kind, "error": str(error)})
                self._dirty.add(kind)  # with the next change

    def _path(self, kind: str) -> Path:
        return self._folder / f"{kind}.json"
