"""Kubernetes' own kinds, cut down to the fields that Tortie reads (core/v1)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tortie.api.meta import Metadata, Object, Record


class ContainerPort(Record):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(Record):
    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""
    """Only on init containers: `Always` makes one a sidecar, which serves for as long as the pod lives."""


class PodSpec(Record):
    node_name: str = ""
    host_network: bool = False
    service_account_name: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodIP(Record):
    ip: str = ""


class PodStatus(Record):
    phase: str = ""
    """Pending, Running, Succeeded, Failed or Unknown."""
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")


class Pod(Object):
    api_version: str = "v1"
    kind: str = "Pod"
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ended(self) -> bool:
        """Succeeded or Failed: its processes are gone for good, its addresses are free."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def named_ports(self) -> Iterator[ContainerPort]:
        """Named ports of containers and sidecars, in the order of the YAML."""
        sidecars = (c for c in self.spec.init_containers if c.restart_policy == "Always")
        for container in (*self.spec.containers, *sidecars):
            yield from (port for port in container.ports if port.name)


class NodeAddress(Record):
    type: str
    """InternalIP, ExternalIP, Hostname, InternalDNS or ExternalDNS."""
    address: str


class NodeCondition(Record):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class NodeStatus(Record):
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class Node(Object):
    api_version: str = "v1"
    kind: str = "Node"
    metadata: Metadata = Metadata()
    status: NodeStatus = NodeStatus()

    @property
    def internal_ips(self) -> tuple[str, ...]:
        """All InternalIPs in the order of the status."""
        return tuple(a.address for a in self.status.addresses if a.type == "InternalIP")


class Namespace(Object):
    api_version: str = "v1"
    kind: str = "Namespace"
    metadata: Metadata = Metadata()


class ServiceAccount(Object):
    api_version: str = "v1"
    kind: str = "ServiceAccount"
    metadata: Metadata = Metadata()


class ConfigMap(Object):
    api_version: str = "v1"
    kind: str = "ConfigMap"
    metadata: Metadata = Metadata()
    data: dict[str, str] = {}
