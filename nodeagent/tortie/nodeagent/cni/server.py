"""The agent's end of the CNI plugin: one request a connection (the format: `nodeagent/cni/plugin.c`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from prometheus_client import Counter, Histogram
from pyroute2 import AsyncIPRoute

from tortie.nodeagent.cni.attachments import Attachments
from tortie.nodeagent.cni.errors import CniError, Code
from tortie.nodeagent.cni.request import COMMANDS, VERSIONS, Request, decode, invalid
from tortie.nodeagent.endpoints import EndpointStore
from tortie.nodeagent.network import Network

log = logging.getLogger(__name__)

SECONDS = Histogram(
    "tortie_cni_seconds",
    "From the plugin's request to the answer, waiting for addresses and policy included",
    ["command"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
ERRORS = Counter("tortie_cni_errors", "Requests answered with an error", ["command", "code"])

REQUEST_WITHIN = 5.0
"""Seconds in which a plugin must have said what it wants."""
CHUNK = 1 << 16


@dataclass(frozen=True)
class Call:
    """What came over a connection."""

    environment: dict[str, str]
    stdin: bytes
    netns: int | None
    """The sandbox's network namespace, open; None if there is none any more."""

    @property
    def command(self) -> str:
        """As a label: one of a few."""
        given = self.environment.get("CNI_COMMAND", "")
        return given if given in COMMANDS else "unknown"

    @property
    def sandbox(self) -> int:
        """Raises CniError if the plugin could not open it."""
        if self.netns is None:
            path, reason = self.environment.get("CNI_NETNS", ""), self.environment.get("NETNS_ERROR", "")
            raise invalid("CNI_NETNS", path, f"cannot be opened: {reason}")
        return self.netns


class Server:
    def __init__(self, agent: Network, store: EndpointStore, socket_path: Path) -> None:
        self._agent = agent
        self._store = store
        self._path = socket_path
        self.listening = asyncio.Event()

    def ready(self) -> str | None:
        """None when the plugin is answered, else why not."""
        return None if self.listening.is_set() else f"nobody listens on {self._path} yet"

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with AsyncIPRoute(groups=0) as route, asyncio.TaskGroup() as calls:
            attachments = Attachments(self._agent, self._store, route)
            with self._listener() as listener:
                while True:
                    connection, _ = await loop.sock_accept(listener)
                    calls.create_task(self._serve(connection, attachments))

    @contextlib.contextmanager
    def _listener(self) -> Iterator[socket.socket]:
        """An earlier agent's socket is replaced: it was killed, or we would not run."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listener:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(512)
            self.listening.set()
            try:
                yield listener
            finally:
                self.listening.clear()
                self._path.unlink(missing_ok=True)

    async def _serve(self, connection: socket.socket, attachments: Attachments) -> None:
        """Never raises but CancelledError: one broken call is no reason to fail the others."""
        began = time.perf_counter()
        with connection, contextlib.ExitStack() as stack:
            try:
                async with asyncio.timeout(REQUEST_WITHIN):
                    call = await receive(connection, stack)
            except (OSError, TimeoutError, ValueError) as error:
                log.warning("a CNI plugin broke off", extra={"error": str(error)})
                return
            answer = await self._answer(call, attachments)
            SECONDS.labels(call.command).observe(time.perf_counter() - began)
            with contextlib.suppress(OSError):  # a runtime that killed its plugin will call DEL
                await asyncio.get_running_loop().sock_sendall(connection, answer)

    async def _answer(self, call: Call, attachments: Attachments) -> bytes:
        version = VERSIONS[-1]
        try:
            request = decode(call.environment, call.stdin)
            version = request.config.cni_version
            return b"0" + await self._do(request, call, attachments)
        except CniError as error:
            failure = error
        except Exception as error:
            log.exception("CNI call failed", extra={"command": call.command})
            failure = CniError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        ERRORS.labels(call.command, str(int(failure.code))).inc()
        return b"1" + failure.encode(version)

    async def _do(self, request: Request, call: Call, attachments: Attachments) -> bytes:
        match request.command:
            case "ADD":
                return msgspec.json.encode(await attachments.add(request, call.sandbox)) + b"\n"
            case "CHECK":
                await attachments.check(request, call.sandbox)
            case "DEL":
                await attachments.delete(request)
            case "GC":
                await attachments.collect(request)
            case "STATUS":
                if reason := self._agent.ready():
                    raise CniError(Code.NOT_AVAILABLE, reason)
        return b""


async def receive(connection: socket.socket, stack: contextlib.ExitStack) -> Call:
    """The whole request; files that came along are closed by `stack`. Raises OSError, ValueError."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    data, files, _, _ = socket.recv_fds(connection, CHUNK, 1, socket.MSG_CMSG_CLOEXEC)
    for file in files:
        stack.callback(os.close, file)
    parts = [data]
    while data := await loop.sock_recv(connection, CHUNK):
        parts.append(data)
    variables, end, stdin = b"".join(parts).partition(b"\0\0")
    if not end:
        raise ValueError("the request is cut off")
    pairs = (each.partition("=") for each in variables.decode(errors="surrogateescape").split("\0"))
    return Call({key: value for key, _, value in pairs}, stdin, files[0] if files else None)
