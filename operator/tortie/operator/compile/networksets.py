"""CompiledNetworkSets from network sets and from the services that rules name, in parts of bounded size."""

from __future__ import annotations

import hashlib

import msgspec

from tortie.api.compiled import Backends, CompiledNetworkSetSpec
from tortie.api.internal import compiled_name
from tortie.operator.world import World
from tortie.policy.convert import network_set, service_set

MOST = 4000
"""Nets in one object, about: 1.5 MB are what etcd takes, and what one change of a net writes is one object."""
DIGITS = 2
"""Hexadecimal digits of a net's hash that may choose its part: up to 256 parts."""


def compiled(world: World, key: str, named: bool) -> dict[str, CompiledNetworkSetSpec]:
    """Name → what it should be without its stamp, of all parts of a set. `named`: some rule names the service."""
    kind, namespace, name = key.split("/")
    if kind == "svc":
        slices = world.slices_of(key)
        whole = service_set(namespace, name, slices) if named and slices else None
    else:
        user = world.shelves[kind].get(f"{namespace}/{name}" if namespace else name)
        whole = network_set(user)[0] if user is not None else None
    if whole is None:
        return {}
    return {
        compiled_name(f"{kind}-{part}" if part else kind, name, namespace): spec for part, spec in parts(whole).items()
    }


def parts(whole: CompiledNetworkSetSpec) -> dict[str, CompiledNetworkSetSpec]:
    """By part: the empty string for a set that fits one object, else the first digits of its nets' hashes.

    A net never moves while the set stays within the size that so many digits serve.
    """
    nets = [*whole.nets, *(net for group in whole.backends for net in group.nets)]
    digits = next((n for n in range(DIGITS) if len(nets) <= MOST * 16**n * 7 // 8), DIGITS)
    if digits == 0:
        return {"": whole}
    found: dict[str, CompiledNetworkSetSpec] = {}
    place = {net: hashlib.sha256(net.encode()).hexdigest()[:digits] for net in nets}
    for part in sorted(set(place.values())):
        backends = (
            Backends(ports=group.ports, nets=tuple(net for net in group.nets if place[net] == part))
            for group in whole.backends
        )
        found[part] = msgspec.structs.replace(
            whole,
            nets=tuple(net for net in whole.nets if place[net] == part),
            backends=tuple(group for group in backends if group.nets),
        )
    return found
