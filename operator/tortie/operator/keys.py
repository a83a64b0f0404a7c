"""What something compiled is made from, as one word: `kind/namespace/name`."""

from __future__ import annotations

from tortie.api.compiled import CompiledNetworkSet, CompiledPolicy
from tortie.api.internal import PolicyStatus
from tortie.api.services import SERVICE_LABEL, EndpointSlice


def source_key(kind: str, name: str, namespace: str = "") -> str:
    """What something compiled is made from: `kind/namespace/name`; kind as in its name (`gnp`, `kns`, `svc` …)."""
    return f"{kind}/{namespace}/{name}"


def compiled_source(obj: CompiledPolicy | CompiledNetworkSet | PolicyStatus) -> str:
    """Source key of what a published object was made from."""
    return source_key(obj.spec.source.kind, obj.spec.source.name, obj.spec.source.namespace)


def service_of(obj: EndpointSlice) -> str:
    """Source key of the service that a slice belongs to."""
    return source_key("svc", obj.metadata.labels.get(SERVICE_LABEL, ""), obj.metadata.namespace)
