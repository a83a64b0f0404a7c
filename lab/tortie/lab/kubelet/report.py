"""What the API server is told of a pod: each status that differs from the last, and at the end that it may go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from tortie.kube.client import ApiError, Client, Conflict, NotFound
from tortie.kube.resources import POD
from tortie.lab.kubelet.manifest import Pod

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

Document = dict[str, Any]


class Report:
    """Of one pod; `status` gives what is to be said of it now. A pod that is gone, or has a successor, ends it."""

    def __init__(self, client: Client, pod: Pod, status: Callable[[], Document]) -> None:
        self.conditions: dict[str, tuple[str, str]] = {}
        """As last told: type → status, time of its last change."""
        self._client = client
        self._pod = pod
        self._status = status
        self._told: Document = {}
        self._news = asyncio.Event()
        self._seen = asyncio.Event()

    def changed(self) -> None:
        self._news.set()

    def seen(self, pod: Pod) -> None:
        """The API server has the pod; the first time, that is what was told of it last."""
        if not self._seen.is_set():
            self.conditions = {each.type: (each.status, each.last_transition_time) for each in pod.status.conditions}
            self._seen.set()

    async def run(self) -> None:
        """For ever. Without an API server, what is latest is told once there is one."""
        await self._seen.wait()
        while True:
            await self._news.wait()
            self._news.clear()
            await self._insist(self._tell)

    async def conclude(self, *, delete: bool) -> None:
        """The last status; then, if the pod is being deleted, its object may go."""
        await self._insist(self._tell)
        if delete:
            await self._insist(self._delete)

    async def _insist(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
                return
            except (NotFound, Conflict):
                return
            except ApiError as error:
                log.warning("not reported", extra={"pod": self._pod.metadata.key, "error": str(error)})
            await asyncio.sleep(RETRY_SECONDS)

    async def _tell(self) -> None:
        status = self._status()
        if status == self._told:
            return
        metadata = self._pod.metadata
        await self._client.patch(
            POD,
            metadata.name,
            {"metadata": {"uid": metadata.uid}, "status": status},
            namespace=metadata.namespace,
            subresource="status",
            type=Pod,
            content_type="application/strategic-merge-patch+json",
        )
        self._told = status
        self.conditions = {each["type"]: (each["status"], each["lastTransitionTime"]) for each in status["conditions"]}

    async def _delete(self) -> None:
        metadata = self._pod.metadata
        await self._client.delete(POD, metadata.name, namespace=metadata.namespace, uid=metadata.uid, grace=0)
