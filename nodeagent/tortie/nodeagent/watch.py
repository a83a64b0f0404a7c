"""The five watches, feeding adoption and the copy on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from tortie.kube import resources
from tortie.kube.client import Client, Resource
from tortie.kube.informer import Bookmark, Change, Informer, Replaced
from tortie.kube.informer import Gone as KeyGone
from tortie.kube.informer import Put as KeyPut
from tortie.nodeagent.adoption import KINDS, Adoption, Event, Gone, Listed, Passed, Put
from tortie.nodeagent.last import LastObjects

log = logging.getLogger(__name__)

RESOURCES: dict[str, Resource] = {
    resource.plural: resource
    for resource in (
        resources.NODE_STATES,
        resources.NODE_PEERS,
        resources.COMPILED_TIERS,
        resources.COMPILED_POLICIES,
        resources.COMPILED_NETWORK_SETS,
    )
}


class Watches:
    """One informer per kind; of NodeStates only this node's own."""

    def __init__(
        self, client: Client, node: str, adoption: Adoption, last: LastObjects, changed: Callable[[], None]
    ) -> None:
        self._client = client
        self._node = node
        self._adoption = adoption
        self._last = last
        self._changed = changed
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.informers: dict[str, Informer[Any]] = {}

    async def run(self) -> None:
        async with self._group:
            for kind in KINDS:
                self._start(kind)

    def _start(self, kind: str) -> None:
        fields = f"metadata.name={self._node}" if kind == "nodestates" else ""

        def listener(change: Change[Any]) -> None:
            self._take(kind, change)

        informer = Informer(self._client, RESOURCES[kind], KINDS[kind], listener=listener, fields=fields, name=kind)
        self.informers[kind] = informer
        self._tasks[kind] = self._group.create_task(informer.run(), name=f"watch {kind}")

    def _take(self, kind: str, change: Change[Any]) -> None:
        rewound = self._adoption.take(kind, translated(change))
        for touched in {kind, *(adopted.kind for adopted in self._adoption.changes)}:
            self._last.touch(touched)
        if rewound:
            # etcd was restored: what the others hold may be of a past that is undone, whether or not they notice.
            log.warning("list is older than what was seen: listing all kinds anew", extra={"kind": kind})
            for other in KINDS:
                if other != kind:
                    self._tasks[other].cancel()
                    self._start(other)
        self._changed()


def translated(change: Change[Any]) -> Event:
    match change:
        case KeyPut(_, obj, version):
            return Put(obj, version)
        case KeyGone(key, _, version):
            return Gone(key, version)
        case Bookmark(version):
            return Passed(version)
        case Replaced(objects, version, rewound):
            return Listed(objects, version, rewound)
