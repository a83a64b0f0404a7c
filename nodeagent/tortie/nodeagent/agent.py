"""The agent as one thing: what is adopted and what is observed become what the kernel should hold, and callers wait
for that."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from typing import Any

from tortie.api.internal import (
    CompiledNetworkSet,
    CompiledPolicy,
    CompiledTier,
    Endpoint,
    ItemError,
    NodePeer,
    NodeState,
)
from tortie.nodeagent.adoption import Adoption, Change
from tortie.nodeagent.desired import Desired
from tortie.nodeagent.endpoints import EndpointRecord, EndpointStore
from tortie.nodeagent.facts import Facts, observed
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.links import sysctl
from tortie.nodeagent.kernel.policy import Policy
from tortie.nodeagent.kernel.reconcile import Convergence, Message, Subsystem
from tortie.nodeagent.kernel.routes import RoutesReconciler
from tortie.nodeagent.last import LastObjects
from tortie.nodeagent.network import EntryError, EntryMissing
from tortie.nodeagent.plan import Planner, confined
from tortie.nodeagent.policy.local import wanted
from tortie.nodeagent.remote import contributed

log = logging.getLogger(__name__)

IPV6_OFF = "net/ipv6/conf/default/disable_ipv6"
SEVERITIES = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
"""logSeverityScreen (Felix) → level."""


@dataclass(frozen=True)
class Marks:
    """Up to where the operator's objects are in a plan (or, once applied, in the kernel)."""

    generation: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    """Plural → resourceVersion."""
    released: tuple[str, ...] = ()
    records: frozenset[EndpointRecord] = frozenset()
    opened: frozenset[str] = frozenset()
    """Host devices of the endpoints that are OPEN."""


@dataclass
class Kernel:
    """The subsystems in the order in which they are converged."""

    nft: Subsystem[Any, Any, Any]
    datapath: Subsystem[Any, Any, Any]
    policy: Subsystem[Any, Any, Any]
    links: Subsystem[Any, Any, Any]
    neighbours: Subsystem[Any, Any, Any]
    routes: Subsystem[Any, Any, Any]


class Agent:
    """Implements `network.Network`."""

    def __init__(
        self, node: str, adoption: Adoption, store: EndpointStore, devices: Devices, last: LastObjects
    ) -> None:
        self.node = node
        self.adoption = adoption
        self.store = store
        self.desired: Desired | None = None
        self.applied = Marks()
        self.first_applied = False
        """The first complete picture is in the kernel."""
        self._planned = Marks()
        self._devices = devices
        self._last = last
        self._facts = Facts()
        self._planner = Planner(node)
        self._dirty = True
        self._policy_dirty = True
        self._policy: Policy | None = None
        self._news = asyncio.Event()
        store.listeners.append(self.changed)

    def attach(self, convergence: Convergence, kernel: Kernel, routes: RoutesReconciler) -> None:
        self._convergence = convergence
        self._kernel = kernel
        self._routes = routes
        convergence.listeners.append(self._turned)

    def changed(self) -> None:
        """Something that a plan depends on has changed."""
        self._dirty = True
        self._convergence.wake()
        self._tell()

    def adopted(self) -> None:
        """An event of a watch was taken. That a pod started on another node concerns policy alone."""
        changes, self.adoption.changes = self.adoption.changes, []
        if self.desired is None or any(self._matters(change) for change in changes):
            self.changed()
            return
        if changes:
            self._policy_dirty = True
            self._convergence.wake()
            self._tell()
            return
        settled = self._planned is self.applied
        self._planned = replace(self._planned, versions=self._versions())
        if settled:
            self.applied = self._planned
        self._tell()

    def _matters(self, change: Change) -> bool:
        if change.kind != "nodepeers":
            return change.kind == "nodestates"
        before, after = change.before, change.after
        if not isinstance(before, NodePeer) or not isinstance(after, NodePeer) or after.metadata.name == self.node:
            return True
        return contributed(before.spec) != contributed(after.spec)

    def _versions(self) -> dict[str, int]:
        return {kind: stream.settled() for kind, stream in self.adoption.streams.items()}

    def observe(self, message: Message) -> None:
        """A kernel notification."""
        if self._devices.observe(message):
            self._dirty = True
            self._convergence.wake()
        self._convergence.observe(message)

    def lost(self) -> None:
        """The kernel dropped notifications: everything is read anew, devices first."""
        self._dirty = True
        self._convergence.lost()

    def plan(self) -> None:
        """Say what is wanted. Before the first complete picture, and while this node's own objects are gone, nothing
        new is: what is in the kernel stays."""
        if not self._dirty and not self._policy_dirty:
            return
        everything, self._dirty, self._policy_dirty = self._dirty, False, False
        streams = self.adoption.streams
        state = streams["nodestates"].adopted.get(self.node)
        peer = streams["nodepeers"].adopted.get(self.node)
        if not self.adoption.complete or not isinstance(state, NodeState) or not isinstance(peer, NodePeer):
            return
        if not everything:
            self._planned = replace(self._planned, versions=self._versions())
            self._want_policy()
            return
        logging.getLogger().setLevel(SEVERITIES.get(state.spec.settings.log_severity.lower(), logging.INFO))
        self._look(state, peer)
        peers = {name: obj for name, obj in streams["nodepeers"].adopted.items() if isinstance(obj, NodePeer)}
        records = self.store.all()
        desired = self._planner.desired(state, peers, self._facts, records)
        self._planned = Marks(
            state.metadata.generation,
            self._versions(),
            confined(state.spec.releasing, records),
            frozenset(records),
            frozenset(e.ifname for e in desired.datapath.endpoints if e.state == "OPEN"),
        )
        if self._routes.own(desired.routes.protocol):
            self._kernel.routes.forget()
        self.desired = desired
        self._kernel.nft.want(desired.table)
        self._kernel.datapath.want(desired.datapath)
        self._want_policy()
        self._kernel.links.want(desired.links)
        self._kernel.neighbours.want(desired.neighbours)
        self._kernel.routes.want(desired.routes)

    def _want_policy(self) -> None:
        adopted = {kind: list(stream.adopted.values()) for kind, stream in self.adoption.streams.items()}
        peers = {obj.metadata.name: obj for obj in adopted["nodepeers"] if isinstance(obj, NodePeer)}
        policies = [obj for obj in adopted["compiledpolicies"] if isinstance(obj, CompiledPolicy)]
        tiers = [obj for obj in adopted["compiledtiers"] if isinstance(obj, CompiledTier)]
        sets = [obj for obj in adopted["compilednetworksets"] if isinstance(obj, CompiledNetworkSet)]
        records = [r for r in self.store.all() if (r.host_ifname, r.host_ifindex) in self._facts.workloads]
        image = wanted(self.node, peers, policies, tiers, sets, records)
        self._policy = Policy(image, {record.host_ifname: record.host_ifindex for record in records})
        self._kernel.policy.want(self._policy)

    def _look(self, state: NodeState, peer: NodePeer) -> None:
        """Facts anew. An uplink that is gone for a moment keeps its place: tearing everything down helps nobody."""
        pattern = state.spec.settings.mtu_iface_pattern
        now = observed(self._devices.by_index, self._devices.addresses, peer.spec.addresses, pattern)
        before = self._facts
        known = {uplink.address for uplink in (before.uplink4, before.uplink6) if uplink}
        if known <= set(peer.spec.addresses):
            lost = (before.uplink4 and not now.uplink4) or (before.uplink6 and not now.uplink6)
            now = replace(
                now,
                uplink4=now.uplink4 or before.uplink4,
                uplink6=now.uplink6 or before.uplink6,
                mtu=before.mtu if lost else now.mtu,
            )
        self._facts = replace(now, ipv6=sysctl(IPV6_OFF) == "0")

    def _turned(self) -> None:
        """After every turn of the convergence."""
        if self.desired is not None and self._convergence.tried:
            self.applied = self._planned
            if not self.first_applied and not self._kernel.nft.errors:
                log.info("first complete picture is in the kernel")
                self.first_applied = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Returns after the next change of anything: events, records, turns."""
        await self._news.wait()

    @property
    def errors(self) -> tuple[ItemError, ...]:
        """Everything that is not as it should be, by item."""
        problems = self.desired.problems if self.desired else ()
        formats = tuple(
            ItemError(item=f"{kind}/{key}", message=f"format {item.obj.spec.format} is not known to this agent")
            for kind, stream in self.adoption.streams.items()
            for key, item in stream.refused.items()
        )
        failed = self._policy.image.failed if self._policy else {}
        refused = tuple(ItemError(item=f"policy/{device}", message=text) for device, text in failed.items())
        return (*formats, *problems, *refused, *self._convergence.errors)

    async def entry(self, namespace: str, name: str, uid: str, timeout: float) -> Endpoint:
        deadline = time.monotonic() + timeout
        while (found := self._find(f"{namespace}/{name}", uid)) is None:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.news()
            except TimeoutError:
                raise EntryMissing(f"the operator has no addresses for pod {namespace}/{name} yet") from None
        if found.error:
            raise EntryError(found.error)
        return found

    def _find(self, name: str, uid: str) -> Endpoint | None:
        """From what rules, else from what waits: addresses are certain once published, only policy may not be in
        force yet (the endpoint then starts PENDING)."""
        stream = self.adoption.streams["nodepeers"]
        waiting = stream.waiting.get(self.node)
        for obj in (stream.adopted.get(self.node), waiting.obj if waiting else None):
            if isinstance(obj, NodePeer):
                for endpoint in obj.spec.endpoints:
                    if endpoint.name == name and uid in ("", endpoint.uid):
                        return endpoint
        return None

    def pod_mtu(self) -> int:
        assert self.desired is not None, "asked before ready()"
        return self.desired.pod_mtu

    async def converge(self, record: EndpointRecord, timeout: float) -> bool:
        self.changed()
        deadline = time.monotonic() + timeout
        while not self._open(record):
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.news()
            except TimeoutError:
                return False
        # A killed agent restores from disk: without this pod's entry there it would cut the pod off again.
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._last.saved()
        except TimeoutError:
            log.warning("entry is not on disk yet", extra={"pod": f"{record.namespace}/{record.name}"})
        return True

    def _open(self, record: EndpointRecord) -> bool:
        """Whether everything that concerns `record` is in the kernel and it is OPEN."""
        if record not in self.applied.records or record.host_ifname not in self.applied.opened:
            return False
        mine = {f"route/{address}/{128 if ':' in address else 32}" for address in record.addresses}
        mine |= {s.reconciler.subsystem for s in self._convergence.subsystems}
        return not any(error.item in mine or record.host_ifname in error.item for error in self._convergence.errors)

    def ready(self) -> str | None:
        return None if self.first_applied else "the first complete picture is not in the kernel yet"
