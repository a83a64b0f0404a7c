"""PolicyStatus: how far each policy is in force, and the same on the user's object where that has a status."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tortie.api.internal import PolicyStatus, PolicyStatusSpec, PolicyStatusStatus
from tortie.api.meta import Metadata
from tortie.api.selector import parse
from tortie.kube.client import AlreadyExists, Client, Conflict, NotFound
from tortie.kube.resources import POLICY_STATUSES
from tortie.operator import events
from tortie.operator.compile.policies import name_of
from tortie.operator.compile.statuses import ACCEPTED, Facts, status
from tortie.operator.policies import Policies
from tortie.operator.selection import Selection
from tortie.operator.sources.informers import POLICY_RESOURCES
from tortie.operator.world import POLICIES, Dirty, World, heard_of
from tortie.operator.writer import unstamped

log = logging.getLogger(__name__)

EVERY = 0.2
"""Seconds between two writes of one PolicyStatus, but for the one that says that all nodes have it."""


class Enforcement:
    def __init__(
        self,
        client: Client,
        world: World,
        policies: Policies,
        epoch: int,
        later: Callable[[Dirty, float], None],
    ) -> None:
        self._client = client
        self._world = world
        self._policies = policies
        self._epoch = epoch
        self._later = later
        self._selection = Selection(self._inherited)
        self._written: dict[str, float] = {}
        self._reachable: set[str] = set()
        self._pending: set[str] = set()
        """Policies that some node does not have yet, or that some node failed at: a report of one may change that."""

    def _inherited(self, source: str) -> Mapping[str, str]:
        profile = self._world.policies.get(name_of(source))
        return profile.spec.labels if profile is not None else {}

    def look(self, dirty: Dirty) -> set[str]:
        """Something was published or reported; returns the policies whose status may have changed."""
        match dirty.output:
            case "policy" if dirty.key.partition("/")[0] in POLICIES:
                wanted = self._policies.wanted(dirty.key)
                self._selection.policy(dirty.key, wanted.spec if wanted else None)
                return {dirty.key}
            case "policy":
                return self._selection.profile(dirty.key)
            case "peer":
                return self._selection.peer(dirty.key, self._world.peers.get(dirty.key))
            case "tier":
                return {key for key, spec in self._policies.specs() if spec.tier == dirty.key}
            case "report":
                return self._reported(dirty.key)
        return set()

    def _reported(self, node: str) -> set[str]:
        """An agent reported: of interest to policies that wait for it. A node came or went: to all that it has."""
        heard = heard_of(self._world.nodes.get(node))
        if heard == (node in self._reachable):
            return self._selection.policies(node) & self._pending
        (self._reachable.add if heard else self._reachable.discard)(node)
        return self._selection.policies(node)

    # --- writes ---------------------------------------------------------------------------------------------------

    async def publish(self, key: str) -> None:
        """Bring a PolicyStatus up to date. Raises ApiError."""
        name = name_of(key)
        published = self._world.statuses.get(name)
        wanted = self._policies.wanted(key)
        if wanted is None:
            self._pending.discard(key)
            if published is not None and not self._in_kernels(name):
                await self._delete(published)
            elif published is not None:
                self._later(Dirty("status", key), time.monotonic() + 1.0)
            return
        compiled = self._world.policies.get(name)
        current = compiled is not None and unstamped(compiled.spec) == wanted.spec
        facts = Facts(
            conversion=wanted,
            version=compiled.metadata.version if compiled is not None and current else 0,
            tier_exists=wanted.spec.tier in self._world.tiers,
            nodes=self._selection.nodes(key),
            host_endpoints=self._hosts(wanted.spec.selector),
            states={state.metadata.name: state for state in self._world.states},
            reachable=self._reachable,
        )
        before = published.status if published is not None else PolicyStatusStatus()
        after = status(facts, before, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        everywhere = after.enforced == after.nodes and not after.unreachable and facts.version > 0
        if everywhere or wanted.spec.staged:
            self._pending.discard(key)
        else:
            self._pending.add(key)
        spec = PolicyStatusSpec(epoch=self._epoch, source=wanted.spec.source)
        if published is None or published.status != after or published.spec.source != spec.source:
            now = time.monotonic()
            if not everywhere and (soonest := self._written.get(name, 0.0) + EVERY) > now:
                self._later(Dirty("status", key), soonest)
                return
            self._written[name] = now
            await self._write(published, PolicyStatus(metadata=meta(name, published), spec=spec, status=after))
            await self._warn(key, before, after)
        await self._tell(key, after, wanted.spec.source.generation)

    def _hosts(self, selector: str) -> list[str]:
        """Names of the host endpoints that a selector selects."""
        parsed = parse(selector)
        return sorted(host.metadata.name for host in self._world.hosts if parsed.matches(host.metadata.labels))

    def _in_kernels(self, name: str) -> bool:
        """Whether a reachable node may still have a policy that is gone."""
        version = self._world.policy_gone.get(name)
        if version is None:
            return False  # it went before our time
        states = (self._world.states.get(node) for node in self._reachable)
        return any(s is not None and s.status.applied.get("compiledpolicies", 0) < version for s in states)

    async def _write(self, published: PolicyStatus | None, obj: PolicyStatus) -> None:
        try:
            if published is None:
                written = await self._client.create(POLICY_STATUSES, obj, type=PolicyStatus)
            else:
                written = await self._client.replace(POLICY_STATUSES, obj, type=PolicyStatus)
        except (AlreadyExists, Conflict, NotFound) as error:
            await self._read(obj.metadata.name)
            raise Conflict(error.status, error.reason, error.message) from error
        self._world.put("policystatuses", written)

    async def _read(self, name: str) -> None:
        known = self._world.statuses.get(name)
        try:
            self._world.put("policystatuses", await self._client.get(POLICY_STATUSES, name, type=PolicyStatus))
        except NotFound:
            self._world.remove("policystatuses", known)

    async def _delete(self, published: PolicyStatus) -> None:
        with contextlib.suppress(NotFound):
            await self._client.delete(POLICY_STATUSES, published.metadata.name, uid=published.metadata.uid)
        self._world.remove("policystatuses", published)
        self._world.policy_gone.pop(published.metadata.name, None)
        self._written.pop(published.metadata.name, None)

    def _user(self, key: str) -> Any:
        """The user's object; None if it is gone."""
        kind, namespace, name = key.split("/")
        return self._world.shelves[kind].get(f"{namespace}/{name}" if namespace else name)

    async def _warn(self, key: str, before: PolicyStatusStatus, after: PolicyStatusStatus) -> None:
        """An Event when a policy is not accepted, or for another reason than before."""
        told = {(c.status, c.message) for c in before.conditions if c.type == ACCEPTED}
        now = next(c for c in after.conditions if c.type == ACCEPTED)
        user = self._user(key)
        if now.status == "False" and (now.status, now.message) not in told and user is not None:
            await events.warn(self._client, user, "NotAccepted", now.message)

    async def _tell(self, key: str, told: PolicyStatusStatus, generation: int) -> None:
        """The conditions on the user's own object, if its kind has a status."""
        kind, namespace, name = key.split("/")
        user = self._user(key)
        conditions = tuple(msgspec.structs.replace(c, observed_generation=generation) for c in told.conditions)
        if user is None or not hasattr(user, "status") or user.status.conditions == conditions:
            return
        body = {"status": {"conditions": msgspec.to_builtins(conditions)}}
        with contextlib.suppress(NotFound):
            patched = await self._client.patch(
                POLICY_RESOURCES[kind], name, body, namespace=namespace, subresource="status", type=type(user)
            )
            self._world.put(kind, patched)


def meta(name: str, published: PolicyStatus | None) -> Metadata:
    return Metadata(name=name, resource_version=published.metadata.resource_version if published else "")
