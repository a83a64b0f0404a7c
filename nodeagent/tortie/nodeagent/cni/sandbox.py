"""The inside of a sandbox: the pod's interface with its addresses and routes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6
from types import TracebackType

from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD

from tortie.nodeagent.cni import veth
from tortie.nodeagent.cni.errors import CniError, Code
from tortie.nodeagent.cni.netns import OWN, inside, route_in
from tortie.nodeagent.cni.result import GATEWAY4, SCOPE_LINK
from tortie.nodeagent.desired import GATEWAY6

DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"
MAIN = 254


class Sandbox:
    """A sandbox's network namespace, open. `path` is for messages."""

    def __init__(self, netns: int, path: str) -> None:
        """Raises CniError unless it is a network namespace, and not the node's own."""
        try:
            self._route = route_in(netns)
        except OSError as error:
            raise CniError(
                Code.INVALID_ENVIRONMENT, f"CNI_NETNS={path!r}: no network namespace ({error.strerror})"
            ) from None
        if os.path.samestat(os.fstat(netns), os.stat(OWN)):
            self._route.close()
            raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS={path!r}: that is the node's own network namespace")
        self.netns = netns

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._route.close()

    async def interface(self, ifname: str) -> veth.End | None:
        return await veth.find(self._route, ifname)

    async def configure(self, interface: veth.End, addresses: Sequence[str]) -> None:
        """Up, with these addresses and all traffic to the host end. What is there already stays.

        No duplicate address detection: the address is IPAM's to guarantee, and nobody else is on this link.
        """
        index = interface.index
        if any(":" in address for address in addresses):
            self._enable_ipv6(interface.name)
        await self._route.link("set", index=index, state="up")
        for address in addresses:
            if ":" in address:
                await self._route.addr("replace", index=index, address=address, prefixlen=128, flags=IFA_F_NODAD)
                await self._route.route("replace", family=AF_INET6, dst="::/0", gateway=GATEWAY6, oif=index)
            else:
                await self._route.addr("replace", index=index, address=address, prefixlen=32)
                await self._route.route("replace", dst=f"{GATEWAY4}/32", oif=index, scope=SCOPE_LINK)
                await self._route.route("replace", dst="0.0.0.0/0", gateway=GATEWAY4, oif=index)

    async def addresses(self, index: int) -> set[str]:
        """With prefix length."""
        return {
            f"{message.get('local') or message.get('address')}/{message['prefixlen']}"
            async for message in await self._route.addr("dump", index=index)
        }

    async def routes(self, index: int) -> set[tuple[str, str]]:
        """(destination, gateway or empty) of the main table through that device."""
        found = set()
        for family, everything in ((AF_INET, "0.0.0.0"), (AF_INET6, "::")):
            async for message in await self._route.route("dump", family=family, table=MAIN, oif=index):
                if message.get("oif") == index:
                    destination = f"{message.get('dst') or everything}/{message['dst_len']}"
                    found.add((destination, message.get("gateway") or ""))
        return found

    def _enable_ipv6(self, ifname: str) -> None:
        """Some runtimes disable it in every new namespace. (/proc/sys/net shows the opener's namespace.)"""
        with inside(self.netns):
            setting = Path(DISABLE_IPV6.format(ifname))
            if setting.read_text().strip() != "0":
                setting.write_text("0")
