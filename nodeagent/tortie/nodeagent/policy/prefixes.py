"""Which nets cover a net."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from tortie.policy.cluster import Address, Network

T = TypeVar("T")


class Prefixes(Generic[T]):
    """Values by net."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int, int], T] = {}
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}

    def __setitem__(self, net: Network, value: T) -> None:
        self._lengths[net.version].add(net.prefixlen)
        self._values[net.version, net.prefixlen, int(net.network_address)] = value

    def setdefault(self, net: Network, value: T) -> T:
        self._lengths[net.version].add(net.prefixlen)
        return self._values.setdefault((net.version, net.prefixlen, int(net.network_address)), value)

    def covering(self, net: Network) -> Iterator[T]:
        """Of every net that holds all of `net`, the longest first."""
        return self._covering(net.network_address, net.prefixlen)

    def holding(self, address: Address) -> Iterator[T]:
        """Of every net that holds an address, the longest first."""
        return self._covering(address, address.max_prefixlen)

    def _covering(self, address: Address, longest: int) -> Iterator[T]:
        version, number, bits = address.version, int(address), address.max_prefixlen
        for length in sorted(self._lengths[version], reverse=True):
            if length <= longest:
                shift = bits - length
                value = self._values.get((version, length, number >> shift << shift))
                if value is not None:
                    yield value
