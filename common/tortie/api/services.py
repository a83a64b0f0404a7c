"""Services (core/v1) and EndpointSlices (discovery.k8s.io/v1), cut down to what rules that name a service need."""

from __future__ import annotations

import msgspec

from tortie.api.meta import Metadata, Object, Record

SERVICE_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: the name of its service."""


class ServicePort(Record):
    name: str = ""
    protocol: str = "TCP"
    port: int = 0


class ServiceSpec(Record):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ports: tuple[ServicePort, ...] = ()


class Service(Object):
    api_version: str = "v1"
    kind: str = "Service"
    metadata: Metadata = Metadata()
    spec: ServiceSpec = ServiceSpec()


class SliceEndpoint(Record):
    addresses: tuple[str, ...] = ()


class SlicePort(Record):
    name: str = ""
    protocol: str = "TCP"
    port: int | None = None
    """None: all ports."""


class EndpointSlice(Object):
    api_version: str = "discovery.k8s.io/v1"
    kind: str = "EndpointSlice"
    metadata: Metadata = Metadata()
    address_type: str = "IPv4"
    """IPv4, IPv6 or FQDN."""
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None
    """The API server writes null for an empty list of either."""
