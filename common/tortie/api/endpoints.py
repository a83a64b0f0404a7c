"""Calico's endpoints: HostEndpoint, and WorkloadEndpoint as calicoctl prints it (for workloads that are no pods)."""

from __future__ import annotations

import msgspec

from tortie.api.calico import API_VERSION
from tortie.api.meta import Metadata, Object, Record
from tortie.api.rules import IntOrString


class EndpointPort(Record):
    name: str
    protocol: IntOrString
    port: int


class HostEndpointSpec(Record):
    node: str = ""
    interface_name: str = ""
    """An interface of the node, `*` for all of them and the pods', or empty: the one with an address among the
    expected."""
    expected_ips: tuple[str, ...] = msgspec.field(default=(), name="expectedIPs")
    """Also the addresses by which rules select the endpoint."""
    profiles: tuple[str, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class HostEndpoint(Object):
    api_version: str = API_VERSION
    kind: str = "HostEndpoint"
    metadata: Metadata
    spec: HostEndpointSpec = HostEndpointSpec()


class WorkloadEndpointPort(Record):
    name: str = ""
    protocol: IntOrString = "TCP"
    port: int = 0


class WorkloadEndpointSpec(Record):
    orchestrator: str = ""
    workload: str = ""
    node: str = ""
    pod: str = ""
    endpoint: str = ""
    service_account_name: str = ""
    ip_networks: tuple[str, ...] = msgspec.field(default=(), name="ipNetworks")
    """/32 and /128."""
    profiles: tuple[str, ...] = ()
    ports: tuple[WorkloadEndpointPort, ...] = ()


class WorkloadEndpoint(Object):
    """`metadata.labels` has the labels of Calico's own too, such as `projectcalico.org/namespace`."""

    api_version: str = API_VERSION
    kind: str = "WorkloadEndpoint"
    metadata: Metadata
    spec: WorkloadEndpointSpec = WorkloadEndpointSpec()
