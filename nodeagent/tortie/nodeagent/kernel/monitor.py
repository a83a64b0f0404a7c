"""Kernel notifications: rtnetlink (links, addresses, routes, neighbours, tc) and nftables."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterator
from types import TracebackType

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from tortie.nodeagent.kernel.reconcile import Message

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE = 33
NFNLGRP_NFTABLES = 7
AF_BRIDGE = 7
NFNL_SUBSYS_NFTABLES = 10
BUFFER = 8 << 20
GROUPS = (
    rtnl.RTMGRP_LINK
    | rtnl.RTMGRP_NEIGH
    | rtnl.RTMGRP_TC
    | rtnl.RTMGRP_IPV4_IFADDR
    | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV6_IFADDR
    | rtnl.RTMGRP_IPV6_ROUTE
)


def tables(data: bytes) -> Iterator[str]:
    """Names of the tables that a datagram of nftables notifications is about.

    In each of these messages (tables, chains, rules, sets, elements, objects) the first attribute type, 1, is the
    table's name (linux/netfilter/nf_tables.h); generation messages have none.
    """
    offset = 0
    while offset + 20 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        if length < 20:
            return
        if kind >> 8 == NFNL_SUBSYS_NFTABLES and length >= 24:
            size, attribute = struct.unpack_from("=HH", data, offset + 20)
            if attribute & 0x3FFF == 1:
                yield data[offset + 24 : offset + 20 + size].rstrip(b"\0").decode(errors="replace")
        offset += (length + 3) & ~3


class Monitor:
    """Two non-blocking sockets, open before the first read so that nothing falls between.

    The kernel queues a change's notification before it acknowledges the change. So after a request of ours returned,
    `drain` has its consequence.
    """

    def __init__(self, observe: Callable[[Message], None], lost: Callable[[], None]) -> None:
        self._observe = observe
        self._lost = lost
        self._marshal = MarshalRtnl()
        self._route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
        self._nft = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        for each in (self._route, self._nft):
            each.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._route.bind((0, GROUPS))
        self._nft.bind((0, 0))
        self._nft.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def __enter__(self) -> Monitor:
        for each in (self._route, self._nft):
            asyncio.get_running_loop().add_reader(each.fileno(), self.drain)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._route, self._nft):
            asyncio.get_running_loop().remove_reader(each.fileno())
            each.close()

    def drain(self) -> None:
        """Hand over everything that has come."""
        for data in self._received(self._route):
            for message in self._marshal.parse(data):
                if "event" not in message:  # of a type that pyroute2 does not know: RTM_NEWCHAIN
                    continue
                # What a bridge says of its ports looks like news of links: "deleted" there means taken off the bridge.
                if message.get("family") != AF_BRIDGE or not message["event"].endswith("LINK"):
                    self._observe(message)
        touched = {name for data in self._received(self._nft) for name in tables(data)}
        for name in touched:
            self._observe({"event": "NFT", "table": name})

    def _received(self, source: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                yield source.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost()
