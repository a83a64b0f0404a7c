"""What the CNI server asks of the agent."""

from __future__ import annotations

from typing import Protocol

from tortie.api.internal import Endpoint
from tortie.nodeagent.endpoints import EndpointRecord


class EntryMissing(Exception):
    """The operator has published no entry for that pod yet: CNI code 11, try again later."""


class EntryError(Exception):
    """The operator published why the pod gets no addresses (`Endpoint.error`)."""


class Network(Protocol):
    """The agent's face to the CNI server."""

    async def entry(self, namespace: str, name: str, uid: str, timeout: float) -> Endpoint:
        """The pod's entry in this node's own NodePeer, waited for up to `timeout` seconds.

        Without a `uid` (a runtime that passes none) any entry of that name will do. Raises EntryMissing or EntryError.
        """
        ...

    def pod_mtu(self) -> int:
        """MTU in bytes for a new pod's interface: the uplink's less the encapsulation of the enabled pools."""
        ...

    async def converge(self, record: EndpointRecord, timeout: float) -> bool:
        """Bring the kernel up to the endpoint store, now.

        True once links, routes and eBPF of `record` are in the kernel and the endpoint is OPEN; False when it still is
        PENDING (or has failed, which is then in the node's status) after `timeout` seconds.
        """
        ...

    def ready(self) -> str | None:
        """None when pods can be attached, else why not (CNI STATUS, code 50)."""
        ...
