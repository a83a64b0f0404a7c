"""Routes of the main table. Mark of ownership: the route protocol (80 unless deviceRouteProtocol says otherwise)."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from socket import AF_INET, AF_INET6

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_REPLACE
from pyroute2.netlink.exceptions import NetlinkError

from tortie.nodeagent.desired import Route, Routes
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.reconcile import Failure, Message, Seen

MAIN = 254
DEFAULT_PROTOCOL = 80
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 253, 255
RTNH_F_ONLINK = 4

Key = tuple[str, int]
"""Destination CIDR and metric: what the kernel identifies a route of a table by."""


@dataclass(frozen=True)
class Set:
    """`ours`: a route of ours is there and is replaced; otherwise the place must be free."""

    key: Key
    route: Route
    protocol: int
    ours: bool


@dataclass(frozen=True)
class Remove:
    key: Key
    route: Route
    protocol: int


Op = Set | Remove


@dataclass(frozen=True)
class There:
    """A route as the kernel has it; `index` because routes go with their device, whatever its name is then."""

    route: Route
    protocol: int
    index: int


Actual = dict[Key, There]


class RoutesReconciler:
    subsystem = "routes"

    def __init__(self, route: AsyncIPRoute, devices: Devices) -> None:
        self._route = route
        self._devices = devices
        self._protocols = frozenset({DEFAULT_PROTOCOL})

    def own(self, protocol: int) -> bool:
        """From now on this number is ours, too. True if it was not: then what was read is no longer all of ours."""
        new = protocol not in self._protocols
        self._protocols |= {protocol}
        return new

    async def read(self) -> Actual:
        actual: Actual = {}
        for family in (AF_INET, AF_INET6):
            async for message in await self._route.route("dump", family=family):
                self.observe(actual, message)
        return actual

    def observe(self, actual: Actual, message: Message) -> Seen:
        event = message["event"]
        if event in ("RTM_NEWROUTE", "RTM_DELROUTE"):
            return self._routed(actual, message)
        if event == "RTM_DELLINK" or (event == "RTM_NEWLINK" and not self._up(message["index"])):
            # IPv4 routes go with their device without a word.
            return self._unlinked(actual, message["index"])
        if event == "RTM_DELADDR" and any(there.index == message["index"] for there in actual.values()):
            return Seen.STALE  # so do they with the last address of their device
        return Seen.NOTHING

    def diff(self, desired: Routes, actual: Actual) -> Sequence[Op]:
        batch: list[Op] = [
            Remove(key, there.route, there.protocol) for key, there in actual.items() if key not in desired.routes
        ]
        for key, route in desired.routes.items():
            there = actual.get(key)
            if there is None or (there.route, there.protocol) != (route, desired.protocol):
                batch.append(Set(key, route, desired.protocol, ours=there is not None))
        return batch

    async def apply(self, batch: Sequence[Op]) -> Sequence[Failure[Op]]:
        failures = []
        for op in batch:
            try:
                await self._do(op)
            except (OSError, NetlinkError) as error:
                failures.append(Failure(op, f"route/{op.key[0]}", str(error)))
        return failures

    async def _do(self, op: Op) -> None:
        net = ip_network(op.key[0])
        family = AF_INET if net.version == 4 else AF_INET6
        fields = {"dst": op.key[0], "family": family, "priority": op.key[1], "table": MAIN, "proto": op.protocol}
        if isinstance(op, Remove):
            kind = RTN_UNREACHABLE if op.route.kind == "unreachable" else RTN_UNICAST
            try:
                await self._route.route("del", type=kind, scope=RT_SCOPE_NOWHERE, **fields)  # of any scope
            except NetlinkError as error:
                if error.code != errno.ESRCH:
                    raise
            return
        fields |= self._fields(op.route, family)
        # Without EXCL the kernel would put it in the place of a foreign route to the same destination.
        await self._route.route("replace" if op.ours else "add", **fields)

    def _fields(self, route: Route, family: int) -> dict[str, object]:
        if route.kind == "unreachable":
            return {"type": RTN_UNREACHABLE}
        index = self._devices.index(route.device)
        if not index:
            raise OSError(errno.ENODEV, f"no device {route.device}")
        fields: dict[str, object] = {"type": RTN_UNICAST, "oif": index}
        if route.via:
            fields["gateway"] = route.via
        if route.onlink:
            fields["flags"] = RTNH_F_ONLINK
        if route.link_scope and family == AF_INET:
            fields["scope"] = RT_SCOPE_LINK
        return fields

    def _routed(self, actual: Actual, message: Message) -> Seen:
        if (message.get("table") or message["table"]) != MAIN or message["tos"]:
            return Seen.NOTHING
        bits = message["dst_len"]
        default = "0.0.0.0" if message["family"] == AF_INET else "::"
        key = (f"{message.get('dst') or default}/{bits}", message.get("priority") or 0)
        there = actual.get(key)
        if message["proto"] not in self._protocols:
            replaced = message["event"] == "RTM_NEWROUTE" and message["header"]["flags"] & NLM_F_REPLACE
            if there and replaced:
                del actual[key]
                return Seen.FOLDED
            return Seen.NOTHING
        now = self._decode(message) if message["event"] == "RTM_NEWROUTE" else None
        if now == there:
            return Seen.NOTHING
        if now:
            actual[key] = now
        elif there and self._decode(message).index == there.index:
            del actual[key]
        return Seen.FOLDED

    def _decode(self, message: Message) -> There:
        protocol = message["proto"]
        if message["type"] == RTN_UNREACHABLE:
            return There(Route("unreachable"), protocol, 0)
        index = message.get("oif") or 0
        four = message["family"] == AF_INET
        route = Route(
            "unicast",
            device=self._devices.name(index),
            via=message.get("gateway") or "",
            onlink=bool(message["flags"] & RTNH_F_ONLINK),
            link_scope=four and message["scope"] == RT_SCOPE_LINK,
        )
        return There(route, protocol, index)

    def _up(self, index: int) -> bool:
        device = self._devices.by_index.get(index)
        return device is not None and device.up

    def _unlinked(self, actual: Actual, index: int) -> Seen:
        lost = [key for key, there in actual.items() if there.index == index]
        for key in lost:
            del actual[key]
        return Seen.FOLDED if lost else Seen.NOTHING
