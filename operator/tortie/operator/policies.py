"""CompiledPolicies, CompiledTiers and CompiledNetworkSets: what is written of them, and when.

A policy that names a service comes after the service's backends; one that is the first to name a label key that
NodePeers leave out comes after all NodePeers carry it, and says so in its stamp.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from tortie.api.compiled import CompiledNetworkSet, CompiledPolicy, CompiledPolicySpec, CompiledTier
from tortie.kube.resources import COMPILED_NETWORK_SETS, COMPILED_POLICIES, COMPILED_TIERS
from tortie.operator.compile import networksets, policies
from tortie.operator.compile.naming import keys_named, services_named
from tortie.operator.world import POLICIES, Dirty, World
from tortie.operator.writer import Writer, meta, unstamped
from tortie.policy.convert import Conversion

AGAIN = 0.05
"""Seconds after which a policy is looked at again that waits for NodePeers."""


class Policies:
    def __init__(
        self,
        world: World,
        writer: Writer,
        carried: Callable[[frozenset[str]], bool],
        later: Callable[[Dirty, float], None],
    ) -> None:
        """`carried`: whether all NodePeers carry these label keys. `later(dirty, at)`: look again."""
        self._world = world
        self._writer = writer
        self._carried = carried
        self._later = later
        self._wanted: dict[str, Conversion] = {}
        """By source key: what each is to be."""
        self._services: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        """How many of these name a service (by source key), or a label key that NodePeers leave out by default."""

    @property
    def keys(self) -> frozenset[str]:
        """Label keys that NodePeers carry because a policy that is, or is to be, published names them."""
        return frozenset(key for key, count in self._keys.items() if count > 0) | self._world.keys_named

    def wanted(self, key: str) -> Conversion | None:
        """What a policy or profile is to be, as of the last look."""
        return self._wanted.get(key)

    def specs(self) -> Iterator[tuple[str, CompiledPolicySpec]]:
        """(source key, what it is to be) of all users' policies."""
        return ((key, c.spec) for key, c in self._wanted.items() if key.partition("/")[0] in POLICIES)

    def look(self, key: str) -> set[Dirty]:
        """Convert what has changed; returns what has to be published before it."""
        before, after = self._wanted.pop(key, None), policies.conversion(self._world, key)
        if before is not None:
            self._count(before, -1)
        if after is None:
            return set()
        self._wanted[key] = after
        self._count(after, 1)
        dirty = {Dirty("set", service) for service in services_named(after.spec)}
        if not self._carried(keys_named(after.spec)):
            dirty |= {Dirty("peer", node.metadata.name) for node in self._world.nodes}
        return dirty

    def _count(self, conversion: Conversion, by: int) -> None:
        self._services.update(dict.fromkeys(services_named(conversion.spec), by))
        self._keys.update(dict.fromkeys(keys_named(conversion.spec), by))

    async def publish(self, key: str) -> None:
        """Bring a CompiledPolicy up to what `look` found. Raises ApiError."""
        name, wanted = policies.name_of(key), self._wanted.get(key)
        published = self._world.policies.get(name)
        if published is not None:
            self._writer.check(published.spec)
        if wanted is None:
            if published is not None and self._writer.speaking_of(key):
                self._later(Dirty("policy", key), time.monotonic() + AGAIN)
            elif published is not None and not self._world.spoken_of(key):
                await self._writer.delete(COMPILED_POLICIES, published)
            return
        if wanted.provisional and published is not None and published.spec.source.uid == wanted.spec.source.uid:
            return  # whom it is for is not understood: the last version that was stays in force
        if published is not None and unstamped(published.spec) == wanted.spec:
            return
        named = keys_named(wanted.spec)
        if not self._carried(named):
            self._later(Dirty("policy", key), time.monotonic() + AGAIN)
            return
        spec = self._writer.stamped(wanted.spec, after_peers=bool(named))
        await self._writer.write(
            COMPILED_POLICIES, published, CompiledPolicy(metadata=meta(name, published), spec=spec)
        )

    async def publish_tier(self, name: str) -> None:
        """Raises ApiError."""
        user, published = self._world.tiers.get(name), self._world.compiled_tiers.get(name)
        if published is not None:
            self._writer.check(published.spec)
        if user is None:
            if published is not None:
                await self._writer.delete(COMPILED_TIERS, published)
            return
        spec = policies.tier(user)
        if published is None or unstamped(published.spec) != spec:
            tier = CompiledTier(metadata=meta(name, published), spec=self._writer.stamped(spec))
            await self._writer.write(COMPILED_TIERS, published, tier)

    async def publish_set(self, key: str) -> None:
        """All parts of a set, new ones before old ones go: a net that moves is never missing. Raises ApiError."""
        named = self._services[key] > 0 or self._world.spoken_of(key)
        wanted = networksets.compiled(self._world, key, named)
        published = self._world.compiled_of(key)
        for compiled in published.values():
            self._writer.check(compiled.spec)
        for name, spec in wanted.items():
            before = published.get(name)
            if before is None or unstamped(before.spec) != spec:
                written = CompiledNetworkSet(metadata=meta(name, before), spec=self._writer.stamped(spec))
                await self._writer.write(COMPILED_NETWORK_SETS, before, written)
        for name in sorted(published.keys() - wanted.keys()):
            await self._writer.delete(COMPILED_NETWORK_SETS, published[name])
