"""PID 1 of a machine of the lab: makes its namespaces, starts its components, reaps, and dies with all of them.

    init.py DIRECTORY [node]

DIRECTORY holds what of the machine outlives it: `init.sock`, `log/` and `disk/`; its last part is the machine's name.
The call returns 0 once the machine runs. A machine is a network, mount, UTS and PID namespace; with `node` it also gets
a file system of its own where a Kubernetes node is expected to differ from its neighbours. Killing this process ends
everything on the machine, and since no namespace and no mount is held anywhere else, nothing remains.

A component that ends is started again, as a kubelet restarts a static pod. `init.sock` takes one JSON request a
connection and answers with one JSON line: `{"do": "start", "name", "argv", "env"}` (the last two as before if absent),
`{"do": "stop", "name", "grace"}` (seconds between SIGTERM and SIGKILL) or `{"do": "list"}`.

It runs as a script and imports the standard library alone, so that a machine of the lab boots in 0.1 s.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# Linux, include/uapi/linux/sched.h and mount.h
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x4000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000

PERSISTENT = ("etc/kubernetes", "etc/cni/net.d", "opt/cni/bin", "var/lib/tortie", "var/lib/cni")
"""What a node keeps across a reboot, in `disk/` of the machine's directory."""
LAYERED = ("etc", "opt", "var/lib")
"""Where a node sees the host's files but writes to its own memory, so that PERSISTENT can be mounted there."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
"""Seconds until a component that ended is started again: doubled each time, forgotten after LONGEST_DELAY of life."""

LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    check(LIBC.mount(*arguments), f"mount {source} on {target}")


def mount_kernel_views() -> None:
    """/proc and /sys that show this machine's processes and network instead of the host's; nothing leaks back."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=700")


def mount_node(disk: Path) -> None:
    """An empty /run, and the node's own disk."""
    handle = os.open(disk, os.O_PATH)
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for place in LAYERED:
        layer = Path("/run/.layers") / place
        (layer / "upper").mkdir(parents=True)
        (layer / "work").mkdir()
        mount("overlay", f"/{place}", "overlay", 0, f"lowerdir=/{place},upperdir={layer}/upper,workdir={layer}/work")
    for place in PERSISTENT:
        os.makedirs(f"/proc/self/fd/{handle}/{place}", exist_ok=True)
        os.makedirs(f"/{place}", exist_ok=True)
        mount(f"/proc/self/fd/{handle}/{place}", f"/{place}", flags=MS_BIND)
    os.close(handle)


class Component:
    """A program that is to run on this machine."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        self.name, self.argv, self.env = name, argv, env
        self.pid = 0
        self.wanted = True
        self.restarts = 0
        self.exit_code: int | None = None
        self.started = 0.0
        self.delay = FIRST_DELAY
        self.ended = asyncio.Event()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "pid": self.pid, "restarts": self.restarts, "exitCode": self.exit_code}


class Init:
    def __init__(self, logs: int) -> None:
        self.logs = logs
        """Handle of the log directory: its path is hidden on a node."""
        self.components: dict[str, Component] = {}

    def spawn(self, component: Component) -> None:
        if not component.wanted or self.components.get(component.name) is not component:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(f"{component.name}.log", flags, 0o644, dir_fd=self.logs)
        component.ended.clear()
        component.started = time.monotonic()
        try:
            component.pid = os.posix_spawn(
                component.argv[0],
                component.argv,
                component.env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these, and children inherit that
            )
        finally:
            os.close(log)

    def reap(self) -> None:
        """Collect every child that ended, also those that came here as orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for component in self.components.values():
                if component.pid == pid:
                    self.over(component, os.waitstatus_to_exitcode(status))

    def over(self, component: Component, exit_code: int) -> None:
        component.pid = 0
        component.exit_code = exit_code
        component.ended.set()
        if component.wanted:
            if time.monotonic() - component.started > LONGEST_DELAY:
                component.delay = FIRST_DELAY
            component.restarts += 1
            asyncio.get_running_loop().call_later(component.delay, self.spawn, component)
            component.delay = min(2 * component.delay, LONGEST_DELAY)

    def start(self, component: Component) -> dict[str, Any]:
        before = self.components.get(component.name)
        if before is not None and before.wanted:
            raise ValueError(f"{component.name} is started already")
        self.components[component.name] = component
        try:
            self.spawn(component)
        except OSError:
            component.wanted = False
            raise
        return component.describe()

    def known(self, name: str) -> Component:
        if name not in self.components:
            raise ValueError(f"{name} was never started")
        return self.components[name]

    async def stop(self, name: str, grace: float) -> dict[str, Any]:
        component = self.known(name)
        component.wanted = False
        if component.pid:
            os.kill(component.pid, signal.SIGTERM if grace else signal.SIGKILL)
            try:
                await asyncio.wait_for(component.ended.wait(), grace or None)
            except TimeoutError:
                os.kill(component.pid, signal.SIGKILL)
                await component.ended.wait()
        return component.describe()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            match json.loads(await reader.readline() or "{}"):
                case {"do": "start", "name": name, "argv": argv, "env": env}:
                    reply: Any = self.start(Component(name, argv, env))
                case {"do": "start", "name": name}:
                    before = self.known(name)
                    reply = self.start(Component(name, before.argv, before.env) if not before.wanted else before)
                case {"do": "stop", "name": name, "grace": grace}:
                    reply = await self.stop(name, grace)
                case {"do": "list"}:
                    reply = [component.describe() for component in self.components.values() if component.wanted]
                case request:
                    raise ValueError(f"request not understood: {request}")
        except (OSError, ValueError) as error:
            reply = {"error": str(error)}
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def run(self, listener: socket.socket, ready: int) -> None:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGCHLD, self.reap)
        loop.add_signal_handler(signal.SIGTERM, over.set)
        server = await asyncio.start_unix_server(self.answer, sock=listener)
        os.write(ready, b"ready")
        os.close(ready)
        async with server:
            await over.wait()


def become_machine(directory: Path, node: bool, ready: int) -> None:
    """In the child, PID 1 of the new namespace: never returns while the machine lives."""
    os.setsid()
    os.chdir("/")
    socket.sethostname(directory.name)
    path = directory / "init.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    logs = os.open(directory / "log", os.O_RDONLY | os.O_DIRECTORY)
    mount_kernel_views()
    if node:
        mount_node(directory / "disk")
    null, log = (
        os.open("/dev/null", os.O_RDWR),
        os.open("init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, dir_fd=logs),
    )
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    asyncio.run(Init(logs).run(listener, ready))


def main() -> int:
    directory, node = Path(sys.argv[1]), sys.argv[2:] == ["node"]
    for part in ("log", "disk"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    check(LIBC.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNET), "unshare")
    reader, ready = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            become_machine(directory, node, ready)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(ready)
    return 0 if os.read(reader, 5) else 1  # nothing to read: the child ended first, and said why on stderr


if __name__ == "__main__":
    sys.exit(main())
