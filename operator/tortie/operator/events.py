"""Kubernetes Events about users' objects: what went wrong, where they look first."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from tortie.api.meta import Metadata, Object
from tortie.kube.client import ApiError, Client
from tortie.kube.resources import EVENT

log = logging.getLogger(__name__)

COMPONENT = "tortie-operator"
CLUSTER_EVENTS = "default"
"""Namespace of events about cluster-scoped objects."""
LONGEST = 1024
"""Characters that an Event's message may have."""


async def warn(client: Client, about: Object, reason: str, message: str) -> None:
    """Write a Warning. That it fails is logged and nothing more: an event is news, not state."""
    metadata: Metadata = about.metadata  # type: ignore[attr-defined]
    kind: str = about.kind  # type: ignore[attr-defined]
    api_version: str = about.api_version  # type: ignore[attr-defined]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    namespace = metadata.namespace or CLUSTER_EVENTS
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata.name[:200]}.", "namespace": namespace},
        "involvedObject": {
            "apiVersion": api_version,
            "kind": kind,
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
        },
        "type": "Warning",
        "reason": reason,
        "message": message[:LONGEST],
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(EVENT, event, namespace=namespace, type=Object)
    except ApiError as error:
        log.warning("event is not written", extra={"about": metadata.key, "reason": reason, "error": str(error)})
