"""The cluster that a question is about: manifests, or the one that a kubeconfig leads to."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from kubernetes_asyncio.config import ConfigException

from tortie.api import endpoints, felix, kubernetes, networking, policies, services, sets
from tortie.api.kinds import KINDS
from tortie.api.meta import Object
from tortie.cli.manifests import UsageError, read
from tortie.kube import resources
from tortie.kube.client import ApiError, Client, NotFound, Resource
from tortie.policy.build import Finding, build, records
from tortie.policy.cluster import Cluster

RESOURCES: dict[type[Object], Resource] = {
    kubernetes.Namespace: resources.NAMESPACE,
    kubernetes.Node: resources.NODE,
    kubernetes.Pod: resources.POD,
    kubernetes.ServiceAccount: resources.SERVICE_ACCOUNT,
    services.Service: resources.SERVICE,
    services.EndpointSlice: resources.ENDPOINT_SLICE,
    networking.NetworkPolicy: resources.KUBERNETES_NETWORK_POLICY,
    networking.ClusterNetworkPolicy: resources.CLUSTER_NETWORK_POLICY,
    policies.Tier: resources.TIER,
    policies.NetworkPolicy: resources.NETWORK_POLICY,
    policies.GlobalNetworkPolicy: resources.GLOBAL_NETWORK_POLICY,
    sets.NetworkSet: resources.NETWORK_SET,
    sets.GlobalNetworkSet: resources.GLOBAL_NETWORK_SET,
    endpoints.HostEndpoint: resources.HOST_ENDPOINT,
    felix.FelixConfiguration: resources.FELIX_CONFIGURATION,
}
"""What a verdict depends on. Staged policies decide nothing."""

CLUSTER_SCOPED = {"Namespace", "Node", "Profile"} | {each.kind for each in RESOURCES.values() if not each.namespaced}


def add_source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--cluster", nargs="+", action="extend", metavar="PATH", help="manifests of the cluster, instead of a live one"
    )
    source.add_argument("--kubeconfig", metavar="FILE", help="of the live cluster ($KUBECONFIG, ~/.kube/config)")


def objects(options: argparse.Namespace) -> list[Object]:
    """Raises UsageError."""
    if options.cluster:
        return from_files(options.cluster)
    return asyncio.run(_live(kubeconfig(options.kubeconfig)))


def built(found: Iterable[Object]) -> Cluster:
    """What of it is not understood, or has no effect, is said on stderr."""
    cluster, findings = build(found)
    for finding in findings:
        print(_shown(finding), file=sys.stderr)
    return cluster


def _shown(finding: Finding) -> str:
    return f"{finding.kind} {finding.key}: {finding.problem}"


def from_files(paths: Iterable[str]) -> list[Object]:
    """Objects of our kinds; as for kubectl, the namespace of one that names none is `default`. Raises UsageError."""
    found: list[Object] = []
    for document in read(paths, recursive=True):
        where = f"{document.file}:{document.line}"
        if document.problem:
            raise UsageError(f"{where}: {document.problem.message} {document.problem.value}".rstrip())
        value = document.value
        if not isinstance(value, dict):
            raise UsageError(f"{where}: is no object with apiVersion and kind")
        try:
            found += records([_in_namespace(value)])
        except msgspec.ValidationError as error:
            raise UsageError(f"{where}: {error}") from None
    return found


def _in_namespace(value: dict[str, object]) -> dict[str, object]:
    metadata = value.get("metadata")
    if value.get("kind") in CLUSTER_SCOPED or not isinstance(metadata, dict) or metadata.get("namespace"):
        return value
    is_ours = (value.get("apiVersion"), value.get("kind")) in KINDS
    return value | {"metadata": metadata | {"namespace": "default"}} if is_ours else value


def kubeconfig(given: str | None) -> Path | None:
    """None: this runs in a pod."""
    files = [given] if given else [each for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    if files:
        return Path(files[0])
    home = Path.home() / ".kube" / "config"
    return None if not home.exists() and "KUBERNETES_SERVICE_HOST" in os.environ else home


async def _live(path: Path | None) -> list[Object]:
    try:
        async with await Client.connect(path, user_agent="tortie") as client:
            found = await asyncio.gather(*(_listed(client, record, each) for record, each in RESOURCES.items()))
    except (ApiError, ConfigException, OSError) as error:
        raise UsageError(f"no cluster to ask ({path or 'as the service account of this pod'}): {error}") from None
    return [each for kind in found for each in kind]


async def _listed(client: Client, record: type[Object], resource: Resource) -> list[Object]:
    """None of a kind that the cluster does not have."""
    try:
        return list((await client.list(resource, type=record)).items)
    except NotFound:
        return []
