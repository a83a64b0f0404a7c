"""A pod's namespaces as the kubelet holds them: made, found again after a restart of the kubelet, and ended.

The network namespace is pinned in /run/netns, as containerd pins it, so that it outlives the pod's processes and CNI
DEL finds it. A sandbox's directory lies in /run, hence a reboot forgets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIM = Path(__file__).with_name("shim.py")
NAMESPACES = Path("/run/netns")
PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class SandboxError(Exception):
    """A sandbox could not be made, or did not do what was asked."""


@dataclass(frozen=True)
class Run:
    """The latest life of a container. Times are seconds since 1970."""

    id: str
    started: float
    finished: float = 0.0
    exit_code: int | None = None

    @classmethod
    def told(cls, run: Mapping[str, Any]) -> Run:
        return cls(run["id"], run["startedAt"], run["finishedAt"] or 0.0, run["exitCode"])


class Sandbox:
    """A live connection to a pod's shim. `dead` is set when its PID 1 has ended, and every process with it."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.runs: dict[str, Run] = {}
        self.dead = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._ended: dict[str, asyncio.Event] = {}
        self._replies: deque[asyncio.Future[None]] = deque()
        self._listener = asyncio.create_task(self._listen(), name=f"sandbox {pid}")

    @classmethod
    async def start(cls, directory: Path, hostname: str) -> Sandbox:
        """New namespaces; the node's own network where `hostname` is empty."""
        directory.mkdir(parents=True, exist_ok=True)
        await command([sys.executable, "-I", "-S", str(SHIM), str(directory), *([hostname] if hostname else [])])
        sandbox = await cls.find(directory)
        if sandbox is None:
            raise SandboxError(f"{directory.name} ended as soon as it was made")
        return sandbox

    @classmethod
    async def find(cls, directory: Path) -> Sandbox | None:
        """The sandbox of that directory, if it lives: perhaps one of a kubelet before this one."""
        try:
            reader, writer = await asyncio.open_unix_connection(directory / "shim.sock")
            if not (first := await reader.readline()):
                return None
        except OSError:
            return None
        sandbox = cls(_peer(writer), reader, writer)
        sandbox.runs = {run["name"]: Run.told(run) for run in json.loads(first)["runs"]}
        return sandbox

    async def run(
        self, name: str, run_id: str, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path
    ) -> None:
        """Start a container. SandboxError if it cannot be."""
        self._ended[name] = asyncio.Event()
        await self._ask(do="start", name=name, id=run_id, argv=argv, env=env, cwd=cwd, log=str(log))

    async def signal(self, name: str, number: signal.Signals) -> None:
        with contextlib.suppress(SandboxError):  # it, or all of them, ended meanwhile
            await self._ask(do="signal", name=name, signal=int(number))

    async def ended(self, name: str) -> Run:
        """The run of a container once it is over. Waits for ever if the sandbox dies: see `dead`."""
        if self.runs[name].exit_code is None:
            await self._ended.setdefault(name, asyncio.Event()).wait()
        return self.runs[name]

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if not self.dead.is_set():  # only then is the number surely still this pod's
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
        await self.dead.wait()

    async def _ask(self, **request: Any) -> None:
        if self.dead.is_set():
            raise SandboxError("the sandbox is gone")
        reply = asyncio.get_running_loop().create_future()
        self._replies.append(reply)
        self._writer.write(json.dumps(request).encode() + b"\n")
        await reply

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                match json.loads(line):
                    case {"ended": run}:
                        self._know(run)
                        self._ended.setdefault(run["name"], asyncio.Event()).set()
                    case {"reply": run}:
                        self._know(run)
                        self._answered(None)
                    case {"error": text}:
                        self._answered(SandboxError(text))
        except OSError:
            pass
        finally:
            self.dead.set()
            self._writer.close()
            while self._replies:
                self._answered(SandboxError("the sandbox is gone"))

    def _know(self, run: Mapping[str, Any]) -> None:
        self.runs[run["name"]] = Run.told(run)

    def _answered(self, error: SandboxError | None) -> None:
        reply = self._replies.popleft()
        if reply.cancelled():
            return
        if error:
            reply.set_exception(error)
        else:
            reply.set_result(None)


def _peer(writer: asyncio.StreamWriter) -> int:
    """Number of the process at the other end of a Unix socket."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    pid: int = PEER.unpack(credentials)[0]
    return pid


async def pin_network(pid: int, name: str) -> Path:
    """Path under which the network namespace of a process stays until `unpin_network`."""
    await command(["ip", "netns", "attach", name, str(pid)])
    return NAMESPACES / name


async def unpin_network(name: str) -> None:
    if (NAMESPACES / name).exists():
        await command(["ip", "netns", "delete", name])


async def command(argv: Sequence[str]) -> str:
    """What a short command prints. SandboxError with its stderr if it fails.

    Cancellation waits for its end, so that whoever then cleans up finds all of what it made or nothing.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe)
    result = asyncio.ensure_future(process.communicate())
    try:
        out, err = await asyncio.shield(result)
    except asyncio.CancelledError:
        await result
        raise
    if process.returncode:
        raise SandboxError(f"{' '.join(argv)}: {err.decode(errors='replace').strip()[-500:]}")
    return out.decode()
