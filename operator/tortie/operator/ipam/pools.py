"""Which pools may serve whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from tortie.api.calico import IPPool
from tortie.api.selector import SelectorError, parse

Network = IPv4Network | IPv6Network

WORKLOAD, TUNNEL = "Workload", "Tunnel"


@lru_cache(maxsize=1 << 16)
def network(cidr: str) -> Network:
    return ip_network(cidr)


@lru_cache(maxsize=1 << 16)
def span(cidr: str) -> tuple[int, int]:
    """First and last address of a network, as numbers."""
    net = network(cidr)
    return int(net.network_address), int(net.broadcast_address)


def version(cidr: str) -> int:
    return 6 if ":" in cidr else 4


def within(block: str, cidr: str) -> bool:
    """Whether `block` lies in `cidr`; both are networks or single addresses."""
    (first, last), (lowest, highest) = span(block), span(cidr)
    return version(block) == version(cidr) and lowest <= first and last <= highest


def merged(cidrs: Iterable[str]) -> tuple[str, ...]:
    """The same addresses in as few networks as possible. Host bits are passed over, as Calico passes over them; so is
    what is no network at all."""
    found: dict[int, list[Network]] = {4: [], 6: []}
    for cidr in cidrs:
        with suppress(ValueError):
            net = ip_network(cidr, strict=False)
            found[net.version].append(net)
    return tuple(str(net) for nets in found.values() for net in collapse_addresses(nets))  # type: ignore[type-var]


@lru_cache(maxsize=4096)
def selects(selector: str, labels: frozenset[tuple[str, str]]) -> bool:
    """Whether a pool's selector takes these labels; an empty one takes all, one that does not parse takes none."""
    if not selector:
        return True
    try:
        return parse(selector).matches(dict(labels))
    except SelectorError:
        return False


def namespace_labels(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """What a pool's namespaceSelector sees (Calico adds the name)."""
    return {**labels, "projectcalico.org/name": name}


def giving(pools: Iterable[IPPool], use: str, node: Mapping[str, str]) -> list[IPPool]:
    """Pools that give new addresses for `use` on a node with these labels, by name.

    Pools that are disabled, on their way out, or of assignmentMode Manual give none by themselves.
    """
    labels = frozenset(node.items())
    return sorted(
        (
            pool
            for pool in pools
            if pool.serves(use)
            and not pool.spec.disabled
            and not pool.metadata.deletion_timestamp
            and pool.spec.assignment_mode == "Automatic"
            and selects(pool.spec.node_selector, labels)
        ),
        key=lambda pool: pool.metadata.name,
    )


def for_namespace(pools: Iterable[IPPool], name: str, labels: Mapping[str, str]) -> list[IPPool]:
    """Those of `pools` that serve a namespace."""
    seen = frozenset(namespace_labels(name, labels).items())
    return [pool for pool in pools if selects(pool.spec.namespace_selector, seen)]


def pool_of(block: str, pools: Iterable[IPPool]) -> IPPool | None:
    """The pool that a block lies in."""
    return next((pool for pool in pools if within(block, pool.spec.cidr)), None)


def overlapped(pools: Iterable[IPPool]) -> dict[str, str]:
    """Name of each pool that overlaps an older one → the older one's: as in Calico it gives no addresses."""
    found: dict[str, str] = {}
    older: list[IPPool] = []
    for pool in sorted(pools, key=lambda pool: (pool.metadata.creation_timestamp, pool.metadata.name)):
        net = network(pool.spec.cidr)
        other = next((o for o in older if network(o.spec.cidr).overlaps(net)), None)
        if other is None:
            older.append(pool)
        else:
            found[pool.metadata.name] = other.metadata.name
    return found
