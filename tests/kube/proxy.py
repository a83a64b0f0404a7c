"""A TCP proxy that can be cut, stalled and made slow, to stand between a client and an API server."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Proxy:
    """Forwards loopback connections to `target` on the running loop."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece of an answer is kept back."""
        self.refusing = False
        """New connections are reset."""
        self.accepted = 0
        self._target = target
        self._budget: int | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def cut_after(self, size: int) -> None:
        """Reset all connections once `size` more bytes of answers have passed."""
        self._budget = size

    def stall(self) -> None:
        """Black hole: connections stay open and new ones are accepted, but nothing passes either way."""
        self._flowing.clear()

    def flow(self) -> None:
        """What was kept back passes after all."""
        self._flowing.set()

    def forget(self) -> None:
        """After `stall`: new connections work, those of before stay black holes."""
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        if self.refusing:
            writer.transport.abort()
            return
        flowing = self._flowing
        try:
            await flowing.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(server_writer)
        pumps = (
            self._pump(reader, server_writer, flowing, answer=False),
            self._pump(server_reader, writer, flowing, answer=True),
        )
        for pump in pumps:
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event, *, answer: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                await flowing.wait()
                if answer:
                    await asyncio.sleep(self.delay)
                    if self._budget is not None and len(data) >= self._budget:
                        writer.write(data[: self._budget])
                        self._budget = None
                        await writer.drain()
                        self.cut()
                        return
                    if self._budget is not None:
                        self._budget -= len(data)
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.transport.abort()
