"""What a kubelet must find again when it was restarted, and where on the node everything lies.

All of it is in /run: a reboot forgets it, as it forgets the processes that it describes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tortie.api.meta import Record
from tortie.lab.kubelet.manifest import Pod

log = logging.getLogger(__name__)


class Ended(Record):
    """A life of a container that is over."""

    run: str
    exit_code: int
    reason: str
    started: float
    finished: float
    message: str = ""


class ContainerRecord(Record):
    restarts: int = 0
    ready: bool = False
    started: bool = False
    ended: bool = False
    """`last` is the life that it is in, not the one before."""
    last: Ended | None = None


class PodRecord(Record):
    """A pod that was begun. `sandbox` is CNI's container id, empty before the first and after the last sandbox."""

    pod: Pod
    sandbox: str = ""
    ips: tuple[str, ...] = ()
    containers: dict[str, ContainerRecord] = {}


class PublicRecord(Record):
    """`pods/NAMESPACE_NAME.json`: for people, `tortie lab exec` and tests, of the pod that has the name now."""

    uid: str
    sandbox: str
    netns: str
    ips: tuple[str, ...]


@dataclass(frozen=True)
class Store:
    run_dir: Path

    def sandbox(self, sandbox: str) -> Path:
        return self.run_dir / "sandboxes" / sandbox

    def logs(self, pod: Pod, container: str) -> Path:
        """The directory of a container's logs, `0.log` of its first life, laid out as in a kubelet's /var/log/pods."""
        return self.run_dir / "logs" / f"{_name(pod)}_{pod.metadata.uid}" / container

    def save(self, record: PodRecord) -> None:
        _replace(self._record(record.pod), record)

    def publish(self, pod: Pod, sandbox: str, netns: str, ips: tuple[str, ...]) -> None:
        """The pod has got its network."""
        _replace(self._public(pod), PublicRecord(uid=pod.metadata.uid, sandbox=sandbox, netns=netns, ips=ips))

    def withdraw(self, pod: Pod) -> None:
        """The pod has no network namespace any more; one of the same name that came after it may have one."""
        public = self._public(pod)
        if public.exists() and msgspec.json.decode(public.read_bytes(), type=PublicRecord).uid == pod.metadata.uid:
            public.unlink()

    def forget(self, pod: Pod) -> None:
        self.withdraw(pod)
        self._record(pod).unlink(missing_ok=True)

    def load(self) -> Iterator[PodRecord]:
        for file in sorted((self.run_dir / "records").glob("*.json")):
            try:
                yield msgspec.json.decode(file.read_bytes(), type=PodRecord)
            except msgspec.DecodeError as error:
                log.error("record is not legible", extra={"file": str(file), "error": str(error)})

    def _record(self, pod: Pod) -> Path:
        return self.run_dir / "records" / f"{pod.metadata.uid}.json"

    def _public(self, pod: Pod) -> Path:
        return self.run_dir / "pods" / f"{_name(pod)}.json"


def _name(pod: Pod) -> str:
    return f"{pod.metadata.namespace}_{pod.metadata.name}"


def _replace(path: Path, record: Record) -> None:
    """At once, so that a reader sees the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(msgspec.json.encode(record))
    fresh.replace(path)
