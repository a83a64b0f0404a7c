"""Pods' veths: the host end in the node's namespace, the other in the sandbox."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from tortie.nodeagent.cni.errors import CniError, Code
from tortie.nodeagent.desired import HOST_MAC
from tortie.nodeagent.facts import WORKLOAD_PREFIX
from tortie.nodeagent.kernel.reconcile import Message

ADDRESS_GENERATION = "/proc/sys/net/ipv6/conf/{}/addr_gen_mode"
"""1: none. The link-local address of the host end is the links reconciler's to give, not the kernel's as well."""


@dataclass(frozen=True)
class End:
    """One end of a veth, as its namespace shows it."""

    index: int
    name: str
    peer: int
    """ifindex of the other end, in the other's namespace; 0: no veth."""
    mac: str
    mtu: int
    up: bool

    @property
    def half_made(self) -> bool:
        """A host end as an ADD that was cut short leaves it: it is up once the agent knows its record."""
        return self.mac == HOST_MAC and not self.up


@contextlib.contextmanager
def refused(doing: str) -> Iterator[None]:
    """What the kernel says, as a CniError that names what for."""
    try:
        yield
    except NetlinkError as error:
        raise CniError(Code.KERNEL_REFUSED, f"{doing}: {os.strerror(error.code)}") from error
    except OSError as error:
        raise CniError(Code.KERNEL_REFUSED, f"{doing}: {error.strerror}") from error


def end(message: Message) -> End:
    return End(
        index=message["index"],
        name=message.get("ifname") or "",
        peer=message.get("link") or 0,
        mac=message.get("address") or "",
        mtu=message.get("mtu") or 0,
        up=bool(message["flags"] & IFF_UP),
    )


async def find(route: AsyncIPRoute, name: str) -> End | None:
    """One device of that namespace, asked for by its name: no dump."""
    try:
        for message in await route.link("get", ifname=name):
            return end(message)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
    return None


async def make(route: AsyncIPRoute, name: str, netns: int, ifname: str, *, mtu: int, mac: str) -> End:
    """Both ends down; the pod's is born in its sandbox, because moving a device there waits for RCU. `mac`: empty for
    the kernel's choice. One queue, as Calico has it: nobody polls a veth, and each queue of each pod costs memory."""
    one = {"num_tx_queues": 1, "num_rx_queues": 1}
    peer: dict[str, object] = {"ifname": ifname, "net_ns_fd": netns, "mtu": mtu} | one
    if mac:
        peer["address"] = mac
    await route.link("add", ifname=name, kind="veth", address=HOST_MAC, mtu=mtu, peer=peer, **one)
    made = await find(route, name)
    if made is None:
        raise OSError(errno.ENODEV, f"{name} went at once: somebody else deleted it")
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        Path(ADDRESS_GENERATION.format(name)).write_text("1")
    return made


async def remove(route: AsyncIPRoute, index: int) -> None:
    """Gone already is fine: it goes with its sandbox, too."""
    try:
        await route.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


async def host_ends(route: AsyncIPRoute) -> list[End]:
    ends = [end(message) async for message in await route.link("dump", kind="veth")]
    return [each for each in ends if each.name.startswith(WORKLOAD_PREFIX)]
