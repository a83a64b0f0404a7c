"""In which order the free addresses of a block are given out: the longest idle first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from tortie.operator.ipam.pools import network

LONG_AGO = float("-inf")


class Reuse:
    """Free addresses of one block, oldest first, with the time of release (monotonic seconds; LONG_AGO: unknown).

    It is the one thing about addresses that is not in a NodePeer: only an order. A new leader takes it from
    `IPAMBlock.unallocated`.
    """

    def __init__(self, cidr: str, order: Iterable[int] = ()) -> None:
        """`order`: ordinals as IPAMBlock lists them; those that it lacks come last."""
        net = network(cidr)
        self.cidr = cidr
        self.size = net.num_addresses
        self._first = int(net.network_address)
        self._six = net.version == 6
        known = dict.fromkeys(ordinal for ordinal in order if 0 <= ordinal < self.size)
        self._texts: dict[int, str] = {}
        """Addresses by ordinal, written out once: those in use are looked at for every pod."""
        self._free: dict[int, float] = dict.fromkeys((*known, *range(self.size)), LONG_AGO)

    def __len__(self) -> int:
        return len(self._free)

    @property
    def ordinals(self) -> tuple[int, ...]:
        """Free ordinals in order, for the mirror."""
        return tuple(self._free)

    def address(self, ordinal: int) -> str:
        text = self._texts.get(ordinal)
        if text is None:
            number = self._first + ordinal
            text = self._texts[ordinal] = str(ip_address(number.to_bytes(16 if self._six else 4)))
        return text

    def ordinal(self, address: str) -> int | None:
        """None if the address is not in the block, or none at all."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        offset = int(parsed) - self._first
        return offset if (parsed.version == 6) == self._six and 0 <= offset < self.size else None

    @property
    def empty(self) -> bool:
        return len(self._free) == self.size

    def available(self, idle_since: float) -> Iterator[str]:
        """Addresses that have been free since `idle_since` or longer, the longest idle first."""
        for ordinal, since in self._free.items():
            if since <= idle_since:
                yield self.address(ordinal)

    def taken(self, address: str) -> None:
        ordinal = self.ordinal(address)
        if ordinal is not None:
            self._free.pop(ordinal, None)

    def released(self, address: str, now: float) -> None:
        ordinal = self.ordinal(address)
        if ordinal is not None:
            self._free.pop(ordinal, None)
            self._free[ordinal] = now
