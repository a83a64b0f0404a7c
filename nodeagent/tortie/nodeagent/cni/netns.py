"""Network namespaces, by file descriptor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator

from pyroute2 import AsyncIPRoute

OWN = "/proc/thread-self/ns/net"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(netns: int) -> None:
    """os.setns of Python 3.12."""
    if LIBC.setns(netns, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def inside(netns: int) -> Iterator[None]:
    """This thread in another namespace, for what must be opened there. Nothing may be awaited meanwhile: the event
    loop's other tasks would be there, too. Raises OSError if `netns` is no network namespace."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(netns)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def route_in(netns: int) -> AsyncIPRoute:
    """rtnetlink of another namespace: a netlink socket stays in the one where it was opened."""
    with inside(netns):
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    return AsyncIPRoute(fileno=opened.detach(), groups=0)


def same(netns: int, path: str = OWN) -> bool:
    return os.path.samestat(os.fstat(netns), os.stat(path))
