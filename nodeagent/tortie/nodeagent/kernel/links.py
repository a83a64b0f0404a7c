"""Devices: the VXLAN devices (made and removed here) and the host ends of pods' veths (made by the CNI server, down).

A veth passes nothing while one end is down. The host end is set up only once the programs are attached to it.

Mark of ownership: the names `vxlan.calico`, `vxlan-v6.calico` and `cali*`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD

from tortie.nodeagent.desired import (
    HOST_SYSCTLS,
    HOST_SYSCTLS6,
    VXLAN,
    WORKLOAD_SYSCTLS,
    WORKLOAD_SYSCTLS6,
    Link,
    Links,
    Vxlan,
)
from tortie.nodeagent.facts import WORKLOAD_PREFIX, Device
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.reconcile import Failure, Message, Seen

SYSCTLS = Path("/proc/sys")


@dataclass(frozen=True)
class Make:
    link: Link


@dataclass(frozen=True)
class Remove:
    name: str


@dataclass(frozen=True)
class Adjust:
    """One attribute of a device that exists: `address` (the MAC), `mtu` or `state`."""

    name: str
    attribute: str
    value: str | int


@dataclass(frozen=True)
class Address:
    command: str
    """add or del."""
    name: str
    address: str


@dataclass(frozen=True)
class Sysctl:
    path: str
    value: str


Op = Make | Remove | Adjust | Address | Sysctl


@dataclass
class Actual:
    devices: Devices
    sysctls: dict[str, str] = field(default_factory=dict)


def ours(name: str) -> bool:
    return name in VXLAN.values() or name.startswith(WORKLOAD_PREFIX)


def sysctl(path: str) -> str:
    """Empty when this kernel (or device) has none of that name."""
    try:
        return (SYSCTLS / path).read_text().strip()
    except OSError:
        return ""


class LinksReconciler:
    subsystem = "links"

    def __init__(self, route: AsyncIPRoute, devices: Devices, guarded: Callable[[int], bool]) -> None:
        """`devices` is the node's mirror, which sees each notification before this does. `guarded` says of a pod's
        device, by index, whether it may be set up."""
        self._route = route
        self._devices = devices
        self._guarded = guarded
        self._sysctls: dict[str, str] = {}

    async def read(self) -> Actual:
        await self._devices.read(self._route)
        self._sysctls = {path: sysctl(path) for path in HOST_SYSCTLS | HOST_SYSCTLS6}
        for device in self._devices.by_index.values():
            if device.name.startswith(WORKLOAD_PREFIX):
                self._sysctls |= workload_sysctls(device.name)
        return Actual(self._devices, self._sysctls)

    def observe(self, actual: Actual, message: Message) -> Seen:
        event = message["event"]
        if event in ("RTM_NEWLINK", "RTM_DELLINK"):
            name = message.get("ifname") or ""
            if event == "RTM_NEWLINK" and name.startswith(WORKLOAD_PREFIX):
                actual.sysctls |= workload_sysctls(name)
        elif event in ("RTM_NEWADDR", "RTM_DELADDR"):
            name = actual.devices.name(message["index"])
        else:
            return Seen.NOTHING
        return Seen.FOLDED if ours(name) else Seen.NOTHING

    def diff(self, desired: Links, actual: Actual) -> Sequence[Op]:
        devices = actual.devices
        batch: list[Op] = []
        for path, value in desired.sysctls.items():
            if actual.sysctls.get(path) != value:
                batch.append(Sysctl(path, value))
        batch += [Remove(name) for name in VXLAN.values() if devices.get(name) and name not in desired.links]
        for link in desired.links.values():
            device = devices.get(link.name)
            if link.vxlan and device and not fits(link.vxlan, device, devices):
                batch.append(Remove(link.name))
                device = None
            if device:
                batch += adjustments(link, device, devices)
            elif link.vxlan:
                batch += [Make(link), *(Address("add", link.name, address) for address in sorted(link.addresses))]
        return batch

    async def apply(self, batch: Sequence[Op]) -> Sequence[Failure[Op]]:
        failures = []
        for op in batch:
            try:
                await self._do(op)
            except (OSError, NetlinkError) as error:
                failures.append(Failure(op, item(op), str(error)))
        return failures

    async def _do(self, op: Op) -> None:
        match op:
            case Sysctl(path, value):
                (SYSCTLS / path).write_text(value)
                self._sysctls[path] = value  # procfs notifies nobody
            case Remove(name):
                await self._route.link("del", index=self._index(name))
            case Make(link):
                await self._make(link)
            case Adjust(name, attribute, value):
                index = self._index(name)
                if attribute == "state" and name.startswith(WORKLOAD_PREFIX) and not self._guarded(index):
                    raise OSError(errno.EAGAIN, "stays down: no programs are attached to it")
                await self._route.link("set", index=index, **{attribute: value})
            case Address(command, name, address):
                await self._address(command, self._index(name), address)

    async def _make(self, link: Link) -> None:
        outer = link.vxlan
        assert outer is not None
        local = "vxlan_local6" if ":" in outer.local else "vxlan_local"
        await self._route.link(
            "add",
            ifname=link.name,
            kind="vxlan",
            address=link.mac,
            mtu=link.mtu,
            vxlan_id=outer.vni,
            vxlan_port=outer.port,
            vxlan_link=self._index(outer.parent),
            vxlan_learning=0,
            **{local: outer.local},
        )
        made = [message async for message in await self._route.link("dump", ifname=link.name)]
        self._devices.observe(made[0])
        await self._route.link("set", index=made[0]["index"], state="up")

    async def _address(self, command: str, index: int, address: str) -> None:
        interface = ip_interface(address)
        flags = {"flags": IFA_F_NODAD} if interface.version == 6 and command == "add" else {}
        fields = {"index": index, "address": str(interface.ip), "prefixlen": interface.network.prefixlen}
        try:
            await self._route.addr(command, **fields, **flags)
            if interface.version == 6 and command == "add":  # which the kernel tells of later, from a work queue
                self._devices.observe({"event": "RTM_NEWADDR", **fields})
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                # The kernel made the same link-local address by itself, and will tell once it has been probed for.
                async for message in await self._route.addr("dump", index=index):
                    self._devices.observe(message)
            elif error.code != errno.EADDRNOTAVAIL:
                raise

    def _index(self, name: str) -> int:
        index = self._devices.index(name)
        if not index:
            raise OSError(errno.ENODEV, f"no device {name}")
        return index


def workload_sysctls(name: str) -> dict[str, str]:
    return {(path := template.format(name)): sysctl(path) for template in WORKLOAD_SYSCTLS | WORKLOAD_SYSCTLS6}


def fits(wanted: Vxlan, device: Device, devices: Devices) -> bool:
    """Whether a device is of the right make; what is wrong with it could only be put right by making it anew."""
    there = device.vxlan
    return there is not None and (there.vni, there.port, there.local, there.parent, there.learning) == (
        wanted.vni,
        wanted.port,
        wanted.local,
        devices.index(wanted.parent),
        False,
    )


def adjustments(link: Link, device: Device, devices: Devices) -> Iterator[Op]:
    """From what a device is to what it should be; down it is given its address first, so that IPv6 derives from it."""
    if device.mac != link.mac:
        yield Adjust(link.name, "address", link.mac)
    if device.mtu != link.mtu:
        yield Adjust(link.name, "mtu", link.mtu)
    if not device.up:
        yield Adjust(link.name, "state", "up")
    there = devices.addresses.get(device.index, frozenset())
    for address in sorted(link.addresses - there):
        yield Address("add", link.name, address)
    if link.vxlan:
        for address in sorted(there - link.addresses):
            if not ip_interface(address).is_link_local:
                yield Address("del", link.name, address)


def item(op: Op) -> str:
    match op:
        case Sysctl(path, _):
            return f"sysctl/{path}"
        case Make(link):
            return f"link/{link.name}"
        case Address(_, name, address):
            return f"address/{name}/{address}"
        case Remove(name) | Adjust(name, _, _):
            return f"link/{name}"
