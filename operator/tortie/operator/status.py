"""What users and other controllers are told: Node conditions from what agents report, Events about what was refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from tortie.api.internal import NodePeerSpec, NodeState
from tortie.api.kubernetes import Node, Pod
from tortie.kube.client import Client, NotFound
from tortie.kube.resources import NODE
from tortie.operator import events
from tortie.operator.world import World

log = logging.getLogger(__name__)

NETWORK_UNAVAILABLE = "NetworkUnavailable"
STRATEGIC = "application/strategic-merge-patch+json"
"""Merges a Node's conditions by their type."""


class Reports:
    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world
        self._warned: set[str] = set()
        self._events: asyncio.Queue[tuple[Pod, str]] = asyncio.Queue()

    async def tell(self, name: str) -> None:
        """Condition NetworkUnavailable of a Node; the scheduler avoids Nodes where it is True. Raises ApiError."""
        node, state = self._world.nodes.get(name), self._world.states.get(name)
        if node is None or state is None or state.spec.uid != node.metadata.uid:
            return
        status, reason, message = network(state, pools=len(self._world.pools) > 0)
        known = next((c for c in node.status.conditions if c.type == NETWORK_UNAVAILABLE), None)
        if known is not None and (known.status, known.reason, known.message) == (status, reason, message):
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        since = known.last_transition_time if known is not None and known.status == status else now
        condition = {
            "type": NETWORK_UNAVAILABLE,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since or now,
        }
        body = {"status": {"conditions": [condition]}}
        try:
            patched = await self._client.patch(
                NODE, name, body, subresource="status", content_type=STRATEGIC, type=Node
            )
        except NotFound:
            return
        current = self._world.nodes.get(name)
        if current is not None and current.metadata.uid == patched.metadata.uid:
            self._world.put("nodes", patched)

    def unserved(self, spec: NodePeerSpec, before: NodePeerSpec) -> None:
        """An Event for each pod that is refused an address for a reason not told yet."""
        told = {endpoint.uid: endpoint.error for endpoint in before.endpoints}
        for endpoint in spec.endpoints:
            if endpoint.error and told.get(endpoint.uid) != endpoint.error:
                log.warning("pod gets no address", extra={"pod": endpoint.name, "error": endpoint.error})
                pod = self._world.pods.get(endpoint.name)
                if pod is not None:
                    self._events.put_nowait((pod, endpoint.error))

    async def run(self) -> None:
        """Write Events, for ever: nothing waits for them."""
        while True:
            pod, message = await self._events.get()
            await events.warn(self._client, pod, "FailedAddressAssignment", message)

    def warn(self, warnings: Iterable[str]) -> None:
        """What of the FelixConfigurations was passed over, once each."""
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                log.warning(warning)


def network(state: NodeState, *, pools: bool) -> tuple[str, str, str]:
    """(status, reason, message) of NetworkUnavailable."""
    if not pools:
        return "True", "NoIPPools", "there is no IPPool, so that no pod can have an address"
    ready = next((c for c in state.status.conditions if c.type == "Ready"), None)
    if ready is None:
        return "True", "TortieIsStarting", "the node's agent has not reported yet"
    if ready.status != "True":
        return "True", "TortieIsStarting", ready.message
    return "False", "TortieIsUp", "the node's agent has applied a complete picture"
