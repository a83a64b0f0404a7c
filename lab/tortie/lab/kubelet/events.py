"""Events, as `kubectl describe` shows them: the same one again raises its count."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tortie.api.meta import Metadata, Object
from tortie.kube.client import ApiError, Client
from tortie.kube.resources import EVENT
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.status import timestamp

log = logging.getLogger(__name__)

Tell = Callable[[str, str, str], None]
"""(Normal or Warning, reason, message) of one pod."""
QUEUE = 200
"""Events beyond these are only logged: with the API server down they do not pile up."""
REMEMBERED = 1000


class Event(Object):
    api_version: str = "v1"
    kind: str = "Event"
    metadata: Metadata = Metadata()


class Events:
    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._source = {"component": "kubelet", "host": node}
        self._queue: asyncio.Queue[tuple[Pod, str, str, str]] = asyncio.Queue(QUEUE)
        self._known: dict[tuple[str, str, str], tuple[str, int]] = {}
        """Pod, reason, message → the Event's name and count."""

    def of(self, pod: Pod) -> Tell:
        return partial(self._tell, pod)

    def _tell(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        log.info("event", extra={"pod": pod.metadata.key, "reason": reason, "said": message})
        if not self._queue.full():
            self._queue.put_nowait((pod, kind, reason, message))

    async def run(self) -> None:
        while True:
            pod, kind, reason, message = await self._queue.get()
            try:
                await self._write(pod, kind, reason, message)
            except ApiError as error:
                log.warning("event not written", extra={"pod": pod.metadata.key, "reason": reason, "error": str(error)})

    async def _write(self, pod: Pod, kind: str, reason: str, message: str) -> None:
        key = (pod.metadata.uid, reason, message)
        namespace, now = pod.metadata.namespace, timestamp(time.time())
        if key in self._known:
            name, count = self._known[key]
            body: dict[str, Any] = {"count": count + 1, "lastTimestamp": now}
            await self._client.patch(EVENT, name, body, namespace=namespace, type=Event)
            self._known[key] = (name, count + 1)
            return
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        created = await self._client.create(
            EVENT,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"generateName": f"{pod.metadata.name[:200]}.", "namespace": namespace},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": namespace,
                    "name": pod.metadata.name,
                    "uid": pod.metadata.uid,
                },
                "type": kind,
                "reason": reason,
                "message": message[:1024],
                "source": self._source,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            },
            namespace=namespace,
            type=Event,
        )
        self._known[key] = (created.metadata.name, 1)
