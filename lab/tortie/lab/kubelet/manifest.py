"""Pods as a kubelet reads them (core/v1): what to run, how to look after it, and what was reported of it before."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tortie.api.meta import Metadata, Object, Record


class FieldReference(Record):
    field_path: str


class EnvironmentSource(Record):
    """Only `fieldRef`; a source of another kind decodes to one without it."""

    field_ref: FieldReference | None = None


class EnvironmentVariable(Record):
    name: str
    value: str = ""
    value_from: EnvironmentSource | None = None


class Port(Record):
    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class Header(Record):
    name: str
    value: str = ""


class HttpGet(Record):
    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[Header, ...] = ()


class Socket(Record):
    port: int | str
    host: str = ""


class Command(Record):
    command: tuple[str, ...] = ()


class Sleep(Record):
    seconds: int


class Action(Record):
    """What a probe or a lifecycle hook does: one of these is set."""

    exec: Command | None = None
    http_get: HttpGet | None = None
    tcp_socket: Socket | None = None
    grpc: Socket | None = None
    sleep: Sleep | None = None


class Probe(Action):
    """Times are seconds."""

    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class Lifecycle(Record):
    post_start: Action | None = None
    pre_stop: Action | None = None


class Container(Record):
    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvironmentVariable, ...] = ()
    ports: tuple[Port, ...] = ()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    restart_policy: str = ""
    """Only on init containers: `Always` makes one a sidecar (KEP-753)."""

    @property
    def sidecar(self) -> bool:
        return self.restart_policy == "Always"


class Spec(Record):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str = ""
    service_account_name: str = ""
    hostname: str = ""
    host_network: bool = False
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30


class PodMetadata(Metadata):
    deletion_grace_period_seconds: int | None = None


class ContainerStatus(Record):
    name: str
    restart_count: int = 0
    container_id: str = msgspec.field(default="", name="containerID")


class PodCondition(Record):
    type: str
    status: str
    last_transition_time: str = ""


class Status(Record):
    phase: str = ""
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()

    @property
    def containers(self) -> Iterator[ContainerStatus]:
        yield from self.init_container_statuses
        yield from self.container_statuses


class Pod(Object):
    api_version: str = "v1"
    kind: str = "Pod"
    metadata: PodMetadata = PodMetadata()
    spec: Spec = Spec()
    status: Status = Status()

    @property
    def ended(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def grace(self) -> int:
        """Seconds between SIGTERM and SIGKILL once the pod is to go; at least one, as a kubelet has it."""
        given = self.metadata.deletion_grace_period_seconds
        return max(1, self.spec.termination_grace_period_seconds if given is None else given)

    @property
    def hostname(self) -> str:
        """At most 63 characters, as the kernel's UTS name of a pod has it."""
        return (self.spec.hostname or self.metadata.name)[:63].rstrip("-.")
