"""Which pods there are on this node: those that the API server has, and those that an earlier kubelet began."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from tortie.kube.informer import Change, Gone, Put, Replaced
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.records import PodRecord
from tortie.lab.kubelet.worker import Node, Worker

log = logging.getLogger(__name__)


class Pods:
    """One worker a pod, by uid: a pod and its successor of the same name may be here at once."""

    def __init__(self, node: Node, tasks: asyncio.TaskGroup) -> None:
        self._node = node
        self._tasks = tasks
        self._workers: dict[str, Worker] = {}
        self._uids: dict[str, str] = {}
        """Key → uid of the pod that the API server has now."""

    def resume(self) -> None:
        """Take up the pods of the kubelet before this one; what became of them, the first list tells."""
        for record in self._node.store.load():
            self._begin(record.pod, record)

    def attachments(self) -> set[tuple[str, str]]:
        return {each for worker in self._workers.values() if (each := worker.housing.attachment)}

    def take(self, change: Change[Pod]) -> None:
        match change:
            case Put(key, pod, _):
                self._put(key, pod)
            case Gone(key, _, _):
                self._remove(self._uids.pop(key, ""))
            case Replaced(objects, _, _):
                self._replace(objects)

    def _put(self, key: str, pod: Pod) -> None:
        uid = pod.metadata.uid
        before = self._uids.get(key)
        if before and before != uid:
            self._remove(before)
        self._uids[key] = uid
        if uid in self._workers:
            self._workers[uid].update(pod)
        elif not pod.ended:
            self._begin(pod)
            self._workers[uid].update(pod)

    def _replace(self, objects: Mapping[str, Pod]) -> None:
        present = {pod.metadata.uid for pod in objects.values()}
        for uid in self._workers.keys() - present:
            self._remove(uid)
        self._uids = {}
        for key, pod in objects.items():
            self._put(key, pod)

    def _remove(self, uid: str) -> None:
        if uid in self._workers:
            self._workers[uid].remove()

    def _begin(self, pod: Pod, record: PodRecord | None = None) -> None:
        worker = Worker(pod, self._node, record)
        self._workers[pod.metadata.uid] = worker
        self._tasks.create_task(self._see_through(worker), name=f"pod {pod.metadata.key}")

    async def _see_through(self, worker: Worker) -> None:
        pod = worker.pod
        log.info("pod begins", extra={"pod": pod.metadata.key, "uid": pod.metadata.uid})
        try:
            await worker.run()
            log.info("pod is over", extra={"pod": pod.metadata.key, "uid": pod.metadata.uid})
        except Exception:  # a mistake of ours in one pod leaves the others alone
            log.exception("pod is given up", extra={"pod": pod.metadata.key, "uid": pod.metadata.uid})
        del self._workers[pod.metadata.uid]
