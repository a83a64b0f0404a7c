"""An API server in memory, exact in what decides about lost and repeated writes.

Optimistic concurrency as kube-apiserver has it: one counter of versions for all kinds; a PUT needs the
resourceVersion that it was computed from; one that changes nothing leaves the version as it is; deletion has
preconditions on UID and version and a version of its own; `generation` counts changes of the spec; a PUT leaves the
status alone where that is a subresource. Every call here is one atomic step; what the network does with requests and
answers is the business of `network`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from tortie.api.meta import Metadata
from tortie.kube.client import AlreadyExists, ApiError, Conflict, NotFound, Resource

replace = msgspec.structs.replace


def kind_of(resource: Resource) -> str:
    """Its plural, with the group where two groups have the same."""
    return f"{resource.plural}.{resource.group}" if resource.plural == "networkpolicies" else resource.plural


@dataclass(frozen=True)
class Event:
    """What a watch tells: the object as it is, or as it was last. `obj.metadata.version` is the event's version."""

    deleted: bool
    obj: Any


class ApiServer:
    def __init__(self) -> None:
        self.version = 1
        self._uids = 0
        self.objects: dict[str, dict[str, Any]] = {}
        """Kind (by `kind_of`) → key → object."""
        self.events: dict[str, list[Event]] = {}
        """Kind → all that ever happened, which watches are fed from."""
        self.listeners: list[Callable[[str, Any, Any], None]] = []
        """Called with (kind, before, after) right after every change."""

    def kind(self, kind: str) -> dict[str, Any]:
        return self.objects.setdefault(kind, {})

    # --- requests -------------------------------------------------------------------------------------------------

    def get(self, resource: Resource, name: str, namespace: str = "") -> Any:
        found = self.kind(kind_of(resource)).get(f"{namespace}/{name}" if namespace else name)
        if found is None:
            raise NotFound(404, "NotFound", f"{kind_of(resource)} {name!r} not found")
        return found

    def list(self, resource: Resource) -> tuple[list[Any], int]:
        return list(self.kind(kind_of(resource)).values()), self.version

    def create(self, resource: Resource, obj: Any) -> Any:
        if obj.metadata.key in self.kind(kind_of(resource)):
            raise AlreadyExists(409, "AlreadyExists", f"{kind_of(resource)} {obj.metadata.key!r} already exists")
        self._uids += 1
        metadata = replace(obj.metadata, uid=f"uid-{self._uids}", generation=1)
        return self._store(kind_of(resource), None, replace(obj, metadata=metadata))

    def replace(self, resource: Resource, obj: Any) -> Any:
        before = self.get(resource, obj.metadata.name, obj.metadata.namespace)
        given = obj.metadata
        if not given.resource_version:
            raise ApiError(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        if given.resource_version != before.metadata.resource_version or given.uid not in ("", before.metadata.uid):
            raise Conflict(409, "Conflict", f"{kind_of(resource)} {given.name!r} has been modified")
        changes = {"metadata": replace(before.metadata, labels=given.labels, annotations=given.annotations)}
        if hasattr(before, "status"):
            changes["status"] = before.status
        return self._changed(kind_of(resource), before, replace(obj, **changes))

    def edit(self, resource: Resource, name: str, namespace: str = "", **fields: Any) -> Any:
        """A PATCH of whole fields: as users do to their objects, and agents to a status."""
        before = self.get(resource, name, namespace)
        return self._changed(kind_of(resource), before, replace(before, **fields))

    def delete(self, resource: Resource, name: str, namespace: str = "", uid: str = "", version: str = "") -> None:
        before = self.get(resource, name, namespace)
        if uid not in ("", before.metadata.uid) or version not in ("", before.metadata.resource_version):
            raise Conflict(409, "Conflict", f"{kind_of(resource)} {name!r}: a precondition of the deletion fails")
        self._store(kind_of(resource), before, None)

    # --- bookkeeping ----------------------------------------------------------------------------------------------

    def _changed(self, kind: str, before: Any, after: Any) -> Any:
        if after == before:
            return before
        if getattr(after, "spec", None) != getattr(before, "spec", None):
            generation = before.metadata.generation + 1
            after = replace(after, metadata=replace(after.metadata, generation=generation))
        return self._store(kind, before, after)

    def _store(self, kind: str, before: Any, after: Any) -> Any:
        self.version += 1
        obj = before if after is None else after
        metadata: Metadata = replace(obj.metadata, resource_version=str(self.version))
        stored = replace(obj, metadata=metadata)
        if after is None:
            del self.kind(kind)[metadata.key]
        else:
            self.kind(kind)[metadata.key] = stored
        self.events.setdefault(kind, []).append(Event(after is None, stored))
        for listener in self.listeners:
            listener(kind, before, None if after is None else stored)
        return stored
