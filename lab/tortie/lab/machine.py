"""A machine of the lab as the host sees it: boot it, run programs on it, enter it, end it (the other end is `init`)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tortie.lab.errors import LabError

LIBC = ctypes.CDLL(None, use_errno=True)
INIT = Path(__file__).with_name("init.py")
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}


class MachineError(LabError):
    """A machine or a component on it did not do what was asked; the message says which, what and why."""


@dataclass(frozen=True)
class Component:
    """A program on a machine. `pid` is the host's number for it, 0 while it is between two lives."""

    name: str
    pid: int
    restarts: int
    exit_code: int | None


@dataclass(frozen=True)
class Machine:
    """A network, mount, UTS and PID namespace held by one init process; `directory` is what outlives it."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def pid(self) -> int:
        """Host's pid of the machine's init, 0 if it is down: the kernel tells who listens on its socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            try:
                client.connect(str(self.directory / "init.sock"))
            except OSError:
                return 0
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid: int = struct.unpack("3i", credentials)[0]
            return pid

    async def boot(self, *, node: bool = False) -> None:
        await run([sys.executable, "-I", "-S", str(INIT), str(self.directory), *(["node"] if node else [])])
        # Duplicate address detection would keep each new IPv6 address from use for a second.
        await self.run(["sysctl", "-qw", *(f"net.ipv6.conf.{scope}.accept_dad=0" for scope in ("all", "default"))])
        await self.ip(["link set lo up"])

    async def halt(self) -> None:
        """End the machine with all that runs on it; returns when the last process is gone."""
        if pid := self.pid:
            await end([pid])
        (self.directory / "init.sock").unlink(missing_ok=True)

    async def start(self, component: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        argv = [str(argument) for argument in argv]
        await self._ask({"do": "start", "name": component, "argv": argv, "env": ENVIRONMENT | dict(env or {})})

    async def start_again(self, component: str) -> None:
        """Start a stopped component with the command line that it had."""
        await self._ask({"do": "start", "name": component})

    async def stop(self, component: str, grace: float) -> None:
        """End a component and leave it ended. SIGKILL comes `grace` seconds after SIGTERM; 0: at once."""
        await self._ask({"do": "stop", "name": component, "grace": grace})

    async def components(self) -> list[Component]:
        listed = await self._ask({"do": "list"})
        hosts = host_pids(self.pid)
        return [
            Component(item["name"], hosts.get(item["pid"], 0), item["restarts"], item["exitCode"]) for item in listed
        ]

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on this machine."""
        if not (pid := self.pid):
            raise MachineError(f"{self.name} is down")
        return ["nsenter", "-t", str(pid), "-m", "-u", "-n", "-p", "--", *argv]

    async def run(self, argv: Sequence[str], text: str = "") -> str:
        return await run(self.enter(argv), text)

    async def http(self, port: int, path: str) -> tuple[int, str]:
        """(status, body) of a GET from this machine to itself. ConnectionError if nobody listens."""
        sock = await asyncio.to_thread(_socket_in, self.pid)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            reader, writer = await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise
        with contextlib.closing(writer):
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        if not head:
            raise ConnectionResetError(f"{self.name}:{port} said nothing")
        return int(head.split()[1]), body

    async def ip(self, commands: Iterable[str]) -> None:
        """Commands of ip(8) in this machine's network; pids in them are the host's."""
        await ip(commands, ["nsenter", "-t", str(self.pid), "-n", "--"])

    async def _ask(self, request: Mapping[str, object]) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(self.directory / "init.sock")
        except OSError as error:
            raise MachineError(f"{self.name} is down") from error
        with contextlib.closing(writer):
            writer.write(json.dumps(request).encode() + b"\n")
            reply = json.loads(await reader.readline() or '{"error": "its init ended"}')
        if isinstance(reply, dict) and "error" in reply:
            raise MachineError(f"{self.name}: {reply['error']}")
        return reply


async def together(work: Iterable[Coroutine[object, object, None]]) -> None:
    """Do all of it at once. The first failure ends the rest and is raised by itself, not as a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for part in work:
                tasks.create_task(part)
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def run(argv: Sequence[str], text: str = "") -> str:
    """Run a command to its end and return what it wrote to stdout."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate(text.encode())
    if process.returncode:
        raise MachineError(f"{' '.join(argv)}: exit code {process.returncode}: {(err or out).decode().strip()}")
    return out.decode()


async def ip(commands: Iterable[str], prefix: Sequence[str] = ()) -> None:
    await run([*prefix, "ip", "-batch", "-"], "".join(f"{command}\n" for command in commands))


def _socket_in(pid: int) -> socket.socket:
    """A TCP socket in the network namespace of a process. To be called in a thread, which returns to its own."""
    with open("/proc/thread-self/ns/net") as own, open(f"/proc/{pid}/ns/net") as other:
        _enter(other.fileno())
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            _enter(own.fileno())
    sock.setblocking(False)
    return sock


def _enter(namespace: int) -> None:
    if LIBC.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


def host_pids(parent: int) -> dict[int, int]:
    """The children of a process: number in their own PID namespace → number on the host."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            if int(fields["PPid"]) == parent:
                numbers = fields["NSpid"].split()
                found[int(numbers[-1])] = int(numbers[0])
    return found


def inits(root: Path) -> list[int]:
    """Host's pids of the inits of all machines whose directory lies under `root`, found without any record of them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            argv = file.read_bytes().decode(errors="replace").split("\0")
            if len(argv) > 4 and argv[3].endswith(f"/{INIT.name}") and Path(argv[4]).is_relative_to(root):
                found.append(int(file.parent.name))
    return found


async def end(pids: Iterable[int], patience: float = 20.0) -> None:
    """SIGKILL processes, which need not be our children, and wait until they are gone."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    loop = asyncio.get_running_loop()
    try:
        for handle in handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        async with asyncio.timeout(patience):
            for handle in handles:
                gone = asyncio.Event()
                loop.add_reader(handle, gone.set)
                await gone.wait()
                loop.remove_reader(handle)
    finally:
        for handle in handles:
            loop.remove_reader(handle)
            os.close(handle)
