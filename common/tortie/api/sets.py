"""Calico's network sets: nets outside the cluster that rules select by labels."""

from __future__ import annotations

from tortie.api.calico import API_VERSION
from tortie.api.meta import Metadata, Object, Record


class NetworkSetSpec(Record):
    nets: tuple[str, ...] = ()
    """CIDRs, masked or not, or addresses."""


class NetworkSet(Object):
    """In a namespace: it inherits the namespace's labels as a pod does."""

    api_version: str = API_VERSION
    kind: str = "NetworkSet"
    metadata: Metadata
    spec: NetworkSetSpec = NetworkSetSpec()


class GlobalNetworkSet(Object):
    api_version: str = API_VERSION
    kind: str = "GlobalNetworkSet"
    metadata: Metadata
    spec: NetworkSetSpec = NetworkSetSpec()
