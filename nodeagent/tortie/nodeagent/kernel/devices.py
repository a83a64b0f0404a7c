"""All network devices of this node and their addresses, kept in step with the kernel's notifications."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP

from tortie.nodeagent.facts import Device, VxlanAttributes
from tortie.nodeagent.kernel.reconcile import Message


@dataclass
class Devices:
    """The mirror: by index, because names move."""

    by_index: dict[int, Device] = field(default_factory=dict)
    addresses: dict[int, frozenset[str]] = field(default_factory=dict)
    """ifindex → addresses with prefix length, as in `10.0.0.1/24`."""
    _names: dict[str, int] = field(default_factory=dict)
    _missed: list[Message] | None = None

    async def read(self, route: AsyncIPRoute) -> None:
        """Read everything; what is notified meanwhile is folded in afterwards."""
        self._missed = []
        try:
            links = [message async for message in await route.link("dump")]
            addresses = [message async for message in await route.addr("dump")]
        finally:
            missed, self._missed = self._missed, None
        self.by_index, self.addresses, self._names = {}, {}, {}
        for message in (*links, *addresses, *missed):
            self.observe(message)

    def observe(self, message: Message) -> bool:
        """Fold a notification (or a line of a dump) in; True if something changed."""
        event = message["event"]
        if event not in ("RTM_NEWLINK", "RTM_DELLINK", "RTM_NEWADDR", "RTM_DELADDR"):
            return False
        if self._missed is not None:
            self._missed.append(message)
            return False
        if event.endswith("LINK"):
            return self._link(event, message)
        return self._address(event, message)

    def get(self, name: str) -> Device | None:
        index = self._names.get(name)
        return None if index is None else self.by_index.get(index)

    def index(self, name: str) -> int:
        """0 when there is no such device."""
        return self._names.get(name, 0)

    def name(self, index: int) -> str:
        device = self.by_index.get(index)
        return device.name if device else ""

    def _link(self, event: str, message: Message) -> bool:
        index = message["index"]
        before = self.by_index.get(index)
        if event == "RTM_DELLINK":
            self.by_index.pop(index, None)
            self.addresses.pop(index, None)
            if before and self._names.get(before.name) == index:
                del self._names[before.name]
            return before is not None
        device = decode(message)
        if before == device:
            return False
        if before and before.name != device.name and self._names.get(before.name) == index:
            del self._names[before.name]
        self.by_index[index] = device
        self._names[device.name] = index
        return True

    def _address(self, event: str, message: Message) -> bool:
        index = message["index"]
        address = message.get("local") or message.get("address")
        text = f"{address}/{message['prefixlen']}"
        before = self.addresses.get(index, frozenset())
        after = before | {text} if event == "RTM_NEWADDR" else before - {text}
        self.addresses[index] = after
        return after != before


def decode(message: Message) -> Device:
    """RTM_NEWLINK as a Device."""
    info = message.get("linkinfo")
    kind = (info.get("kind") if info else "") or ""
    data = info.get("data") if info else None
    vxlan = None
    if kind == "vxlan" and data:
        vxlan = VxlanAttributes(
            vni=data.get("vxlan_id") or 0,
            port=data.get("vxlan_port") or 0,
            local=data.get("vxlan_local") or data.get("vxlan_local6") or "",
            parent=data.get("vxlan_link") or 0,
            learning=bool(data.get("vxlan_learning")),
        )
    return Device(
        index=message["index"],
        name=message.get("ifname") or "",
        kind=kind,
        mac=message.get("address") or "",
        mtu=message.get("mtu") or 0,
        up=bool(message["flags"] & IFF_UP),
        vxlan=vxlan,
    )
