"""Names and addresses of a lab, decided from its name and size alone. No I/O.

Everything but the link to the host lies inside namespaces of the lab, so the same addresses serve every lab. Pods and
services have the ranges of a kubeadm cluster.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from tortie.lab.errors import LabError

POD_CIDRS = ("10.244.0.0/16", "fd00:10:244::/56")
SERVICE_CIDRS = ("10.96.0.0/16", "fd00:10:96::/112")
API_SERVICE = ("10.96.0.1", "fd00:10:96::1")
OUTSIDE = ("198.51.100.1/32", "2001:db8:51::1/128")
"""Addresses of the router that stand for the world outside (RFC 5737, RFC 3849): it has no route to any pod."""
API_PORT = 6443
MTU = 1500

HOST_LINKS = IPv4Network("169.254.64.0/18")
"""Link-local (RFC 3927), so that it is no one's routed network; clear of 169.254.169.254 and of 169.254.1.1."""
LINK_COUNT = HOST_LINKS.num_addresses // 4

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?")


@dataclass(frozen=True)
class Addresses:
    """Both addresses of one machine in its subnet."""

    v4: IPv4Interface
    v6: IPv6Interface


@dataclass(frozen=True)
class Plan:
    """What a lab of this name and size looks like."""

    name: str
    nodes: int = 3
    subnets: int = 1
    link: int = 0
    """Which /30 of HOST_LINKS connects the control plane to the host."""
    without: tuple[str, ...] = ()
    """Components that are not started (for tests of the others)."""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise LabError(f"name {self.name!r}: up to 20 lower-case letters, digits and hyphens")
        if not 0 <= self.nodes <= 200:
            raise LabError(f"nodes {self.nodes}: 0 to 200")
        if not 1 <= self.subnets <= 16:
            raise LabError(f"subnets {self.subnets}: 1 to 16")

    @property
    def node_names(self) -> list[str]:
        return [f"node{number}" for number in range(1, self.nodes + 1)]

    def subnet(self, node: str) -> int:
        """Nodes take the subnets in turn."""
        return (_number(node) - 1) % self.subnets

    def node(self, node: str) -> Addresses:
        return address(self.subnet(node), 10 + _number(node))

    @property
    def control(self) -> Addresses:
        return address(0, 2)

    def router(self, subnet: int) -> Addresses:
        return address(subnet, 1)

    @property
    def host_interface(self) -> str:
        """Name of the host's end of the link, at most 15 characters."""
        return "tortie-" + hashlib.sha256(self.name.encode()).hexdigest()[:8]

    @property
    def host_end(self) -> IPv4Interface:
        return self._link_end(1)

    @property
    def control_end(self) -> IPv4Interface:
        return self._link_end(2)

    def _link_end(self, offset: int) -> IPv4Interface:
        return IPv4Interface((int(HOST_LINKS.network_address) + 4 * self.link + offset, 30))


def address(subnet: int, number: int) -> Addresses:
    """The number-th addresses of a subnet: 172.20.S.N/24 and fd20:S::N/64."""
    v4 = IPv4Network(f"172.20.{subnet}.0/24")
    v6 = IPv6Network(f"fd20:{subnet:x}::/64")
    return Addresses(
        IPv4Interface((int(v4.network_address) + number, 24)), IPv6Interface((int(v6.network_address) + number, 64))
    )


def preferred_link(name: str) -> int:
    """Where a lab of this name looks first for a free link to the host."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % LINK_COUNT


def _number(node: str) -> int:
    return int(node.removeprefix("node"))
