"""PID 1 of a pod: holds its namespaces, starts its containers, reaps, and outlives the kubelet.

    shim.py DIRECTORY [HOSTNAME]

Makes a PID and, with a HOSTNAME, a network and a UTS namespace, and returns 0 once the pod's PID 1 listens on
DIRECTORY/shim.sock (the kernel tells who connects what number it has). Killing it kills every process of the pod.

A client is first told what there is, `{"runs": [RUN…]}`, then of each run that ends, `{"ended": RUN}`. It may ask for
`{"do": "start", "id", "name", "argv", "env", "cwd", "log"}` or `{"do": "signal", "name", "signal"}`, and gets
`{"reply": RUN}` or `{"error": TEXT}`, in the order of its requests. A RUN is the latest life of a container: id, name,
pid (in the pod), startedAt, finishedAt (seconds since 1970) and exitCode (null while it runs; 128 + signal as shells
have it).

It is a script on the standard library's small modules alone: a pod costs 15 ms and 8 MB.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any

# Linux, include/uapi/linux/sched.h, sockios.h and if.h
CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET = 0x4000000, 0x20000000, 0x40000000
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40

Run = dict[str, Any]


class Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pending = b""

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it is gone; its end of file follows
            self.sock.sendall(json.dumps(message).encode() + b"\n")


class Shim:
    def __init__(self, listener: socket.socket) -> None:
        self.runs: dict[str, Run] = {}
        self.clients: list[Client] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        wakeup, self.wakeup_end = socket.socketpair()
        for end in (wakeup, self.wakeup_end):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.wakeup_end.fileno())
        self.selector.register(wakeup, selectors.EVENT_READ, self.woken)

    def loop(self) -> None:
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def accept(self, listener: socket.socket) -> None:
        client = Client(listener.accept()[0])
        client.send({"runs": list(self.runs.values())})
        self.clients.append(client)
        self.selector.register(client.sock, selectors.EVENT_READ, lambda sock: self.hear(client))

    def hear(self, client: Client) -> None:
        try:
            data = client.sock.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(client.sock)
            self.clients.remove(client)
            client.sock.close()
            return
        *lines, client.pending = (client.pending + data).split(b"\n")
        for line in lines:
            client.send(self.answer(json.loads(line)))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            if request["do"] == "start":
                return {"reply": self.start(request)}
            return {"reply": self.signal(request["name"], request["signal"])}
        except (OSError, LookupError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def start(self, request: dict[str, Any]) -> Run:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log = os.open(request["log"], flags, 0o644)
        pid = os.fork()
        if pid == 0:
            become(request, log)
        os.close(log)
        run = {"id": request["id"], "name": request["name"], "pid": pid, "startedAt": time.time()}
        self.runs[request["name"]] = run | {"finishedAt": None, "exitCode": None}
        return self.runs[request["name"]]

    def signal(self, name: str, number: int) -> Run:
        """SIGKILL goes to everything that the container started in its session's group, as a cgroup's end would."""
        run = self.runs[name]
        if run["exitCode"] is None:
            (os.killpg if number == signal.SIGKILL else os.kill)(run["pid"], number)
        return run

    def woken(self, wakeup: socket.socket) -> None:
        wakeup.recv(4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for run in self.runs.values():
                if run["pid"] == pid and run["exitCode"] is None:
                    self.ended(run, os.waitstatus_to_exitcode(status))

    def ended(self, run: Run, code: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run["pid"], signal.SIGKILL)
        run |= {"finishedAt": time.time(), "exitCode": code if code >= 0 else 128 - code}
        for client in self.clients:
            client.send({"ended": run})


def become(request: dict[str, Any], log: int) -> None:
    """In the child: turn into the container's program."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):  # Python's settings, which exec would inherit
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(request["cwd"])
        os.execve(request["argv"][0], request["argv"], request["env"])
    except BaseException:
        os.write(log, traceback.format_exc().encode())
    finally:
        os._exit(128)


def become_pod(path: str, hostname: str, log: int, ready: int) -> None:
    os.setsid()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    if hostname:
        socket.sethostname(hostname)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP | IFF_RUNNING))
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.chdir("/")
    shim = Shim(listener)
    os.write(ready, b"ready")
    os.close(ready)
    shim.loop()


def main() -> int:
    directory, hostname = sys.argv[1], "".join(sys.argv[2:])
    log = os.open(f"{directory}/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    flags = CLONE_NEWPID | (CLONE_NEWUTS | CLONE_NEWNET if hostname else 0)
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
    reader, ready = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        try:
            become_pod(f"{directory}/shim.sock", hostname, log, ready)
        except BaseException:
            os.write(log, traceback.format_exc().encode())
        os._exit(1)
    os.close(ready)
    return 0 if os.read(reader, 5) else 1  # nothing to read: PID 1 ended first, and said why in shim.log


if __name__ == "__main__":
    sys.exit(main())
