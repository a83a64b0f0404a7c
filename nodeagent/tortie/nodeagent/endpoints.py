"""Local endpoint records: one file per sandbox interface that the CNI server attached.

They live under /run (gone after a reboot, as the sandboxes are) and outlive the agent, so that a restarted one knows
which veth belongs to which pod before anything answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from tortie.api.meta import Record
from tortie.nodeagent.files import replace_file

log = logging.getLogger(__name__)


class EndpointRecord(Record):
    """A sandbox interface as it was attached."""

    container_id: str
    ifname: str
    """Name inside the sandbox (CNI_IFNAME)."""
    netns: str
    """Path of the sandbox's network namespace as the runtime gave it."""
    namespace: str
    name: str
    uid: str
    """UID of the pod that the sandbox belongs to."""
    host_ifname: str
    host_ifindex: int
    pod_mac: str
    addresses: tuple[str, ...]
    """At most one IPv4 and one IPv6 address, without prefix length."""
    mtu: int
    created: float
    """Seconds since the epoch."""

    @property
    def key(self) -> tuple[str, str]:
        return self.container_id, self.ifname


class EndpointStore:
    """The records of one run-dir, in memory and on disk; tells `listeners` after every change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[tuple[str, str], EndpointRecord] = {}
        self.listeners: list[Callable[[], None]] = []

    @classmethod
    def load(cls, folder: Path) -> EndpointStore:
        """All records in `folder`, which is made if absent. A file that is no record is left there and logged."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for scratch in folder.glob(".*.new"):  # of an agent that was killed over it
            scratch.unlink()
        store = cls(folder)
        for path in sorted(folder.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=EndpointRecord)
            except (OSError, msgspec.DecodeError) as error:
                log.error("endpoint record is not readable", extra={"path": str(path), "error": str(error)})
                continue
            store._records[record.key] = record
        return store

    def put(self, record: EndpointRecord) -> None:
        """Raises OSError when the disk refuses; then nothing has changed."""
        replace_file(self._path(*record.key), msgspec.json.encode(record))
        self._records[record.key] = record
        self._changed()

    def remove(self, container_id: str, ifname: str) -> EndpointRecord | None:
        """The record that was removed, None if there was none."""
        self._path(container_id, ifname).unlink(missing_ok=True)
        record = self._records.pop((container_id, ifname), None)
        if record is not None:
            self._changed()
        return record

    def get(self, container_id: str, ifname: str) -> EndpointRecord | None:
        return self._records.get((container_id, ifname))

    def by_pod(self, namespace: str, name: str) -> tuple[EndpointRecord, ...]:
        """All sandboxes of pods of that name, the oldest first: a late DEL may leave one of an earlier pod."""
        found = [r for r in self._records.values() if (r.namespace, r.name) == (namespace, name)]
        return tuple(sorted(found, key=lambda record: record.created))

    def all(self) -> tuple[EndpointRecord, ...]:
        return tuple(self._records.values())

    def _path(self, container_id: str, ifname: str) -> Path:
        return self._folder / f"{container_id}-{ifname}.json"

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()
