"""Neighbour and forwarding entries of the VXLAN devices. Mark of ownership: permanent, and on a device of ours."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from tortie.nodeagent.desired import VXLAN, Neighbours
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.reconcile import Failure, Message, Seen

AF_BRIDGE = 7
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF = 0x02
NO_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Entry:
    """`table` is neighbours (key: tunnel address, value: MAC) or forwarding (key: MAC, value: node address)."""

    table: str
    device: str
    key: str
    value: str
    remove: bool = False


@dataclass
class Actual:
    """As Neighbours, and by ifindex: entries go with their device."""

    neighbours: dict[tuple[int, str], str] = field(default_factory=dict)
    forwarding: dict[tuple[int, str], str] = field(default_factory=dict)


class NeighboursReconciler:
    subsystem = "neighbours"

    def __init__(self, route: AsyncIPRoute, devices: Devices) -> None:
        self._route = route
        self._devices = devices

    async def read(self) -> Actual:
        actual = Actual()
        for name in VXLAN.values():
            index = self._devices.index(name)
            if not index:
                continue
            for dump in (
                await self._route.neigh("dump", family=AF_INET, ifindex=index),
                await self._route.neigh("dump", family=AF_INET6, ifindex=index),
                await self._route.fdb("dump", ifindex=index),
            ):
                async for message in dump:
                    self.observe(actual, message)
        return actual

    def observe(self, actual: Actual, message: Message) -> Seen:
        event = message["event"]
        if event == "RTM_DELLINK":
            return self._unlinked(actual, message["index"])
        if event not in ("RTM_NEWNEIGH", "RTM_DELNEIGH"):
            return Seen.NOTHING
        index = message["ifindex"]
        if self._devices.name(index) not in VXLAN.values():
            return Seen.NOTHING
        address, mac = message.get("dst") or "", message.get("lladdr") or ""
        if message["family"] == AF_BRIDGE:
            table, key, value = actual.forwarding, mac, address
        else:
            table, key, value = actual.neighbours, address, mac
        there = table.get((index, key))
        if event == "RTM_NEWNEIGH" and message["state"] & NUD_PERMANENT and key != NO_MAC:
            table[index, key] = value
        elif there is not None and (event == "RTM_NEWNEIGH" or message["family"] != AF_BRIDGE or value == there):
            del table[index, key]
        return Seen.NOTHING if table.get((index, key)) == there else Seen.FOLDED

    def diff(self, desired: Neighbours, actual: Actual) -> Sequence[Entry]:
        batch: list[Entry] = []
        for table, wanted, there in (
            ("neighbours", desired.neighbours, actual.neighbours),
            ("forwarding", desired.forwarding, actual.forwarding),
        ):
            for (index, key), value in there.items():
                device = self._devices.name(index)
                if (device, key) not in wanted:
                    batch.append(Entry(table, device, key, value, remove=True))
            for (device, key), value in wanted.items():
                if there.get((self._devices.index(device), key)) != value:
                    batch.append(Entry(table, device, key, value))
        return batch

    async def apply(self, batch: Sequence[Entry]) -> Sequence[Failure[Entry]]:
        failures = []
        for entry in batch:
            try:
                await self._do(entry)
            except (OSError, NetlinkError) as error:
                if not (entry.remove and getattr(error, "code", error.args[0]) in (errno.ENOENT, errno.ENODEV)):
                    failures.append(Failure(entry, f"neighbour/{entry.key}", str(error)))
        return failures

    async def _do(self, entry: Entry) -> None:
        index = self._devices.index(entry.device)
        if not index:
            raise OSError(errno.ENODEV, f"no device {entry.device}")
        command = "del" if entry.remove else "replace"
        if entry.table == "forwarding":
            await self._forward(command, index, entry)
            return
        family = AF_INET6 if ":" in entry.key else AF_INET
        await self._route.neigh(
            command, family=family, ifindex=index, dst=entry.key, lladdr=entry.value, state=NUD_PERMANENT
        )

    async def _forward(self, command: str, index: int, entry: Entry) -> None:
        # pyroute2's fdb() completes state and flags for add and del only.
        await self._route.fdb(
            command, ifindex=index, lladdr=entry.key, dst=entry.value, state=NUD_PERMANENT | 0x40, flags=2
        )

    def _unlinked(self, actual: Actual, index: int) -> Seen:
        lost = False
        for table in (actual.neighbours, actual.forwarding):
            for key in [key for key in table if key[0] == index]:
                del table[key]
                lost = True
        return Seen.FOLDED if lost else Seen.NOTHING
