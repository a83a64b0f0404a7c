"""What a cluster begins with: its first IPPools, made once, and the built-in tiers."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from tortie.api.calico import ClusterInformation, IPPool, IPPoolSpec
from tortie.api.kubernetes import ConfigMap
from tortie.api.meta import Metadata, Record
from tortie.api.policies import BUILT_IN_TIERS, Tier
from tortie.kube.client import AlreadyExists, Client, NotFound
from tortie.kube.resources import CLUSTER_INFORMATION, CONFIG_MAP, IP_POOL, TIER

log = logging.getLogger(__name__)

MADE = "tortie.io/default-ip-pools"
"""Annotation of ClusterInformation `default`: which pools were made. With it none is made again, whatever became of
them: a pool that someone deleted stays deleted."""


class Networking(Record):
    pod_subnet: str = ""


class Kubeadm(Record):
    """kubeadm's ClusterConfiguration."""

    networking: Networking = Networking()


PoolValues = Sequence[dict[str, Any]]


class PoolValueError(ValueError):
    """The value `ipPools` does not say what a pool is; the message names item and field."""


async def establish(client: Client, values: PoolValues | None) -> bool:
    """Make the pools that `values` says; None: what kubeadm says. Raises ApiError.

    Made at most once in the life of a cluster. False: kubeadm does not say anything yet.
    """
    information = await cluster_information(client)
    if MADE in information.metadata.annotations:
        return True
    pools = given(values) if values is not None else kubeadm_pools(await pod_subnets(client))
    if not pools:
        return values is not None  # nothing is recorded, and Nodes say that there is no pool
    for pool in pools:
        try:
            await client.create(IP_POOL, {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", **pool}, type=IPPool)
        except AlreadyExists:
            continue
        log.info("pool is made", extra={"pool": pool["metadata"]["name"], "cidr": pool["spec"]["cidr"]})
    names = ",".join(pool["metadata"]["name"] for pool in pools)
    body = {"metadata": {"annotations": {MADE: names}}}
    await client.patch(CLUSTER_INFORMATION, "default", body, type=ClusterInformation)
    return True


async def establish_tiers(client: Client) -> None:
    """Make the built-in tiers that are not there. Raises ApiError."""
    for name, spec in BUILT_IN_TIERS.items():
        with contextlib.suppress(AlreadyExists):
            await client.create(TIER, Tier(metadata=Metadata(name=name), spec=spec), type=Tier)
            log.info("tier is made", extra={"tier": name})


async def cluster_information(client: Client) -> ClusterInformation:
    """The one named `default`, made if there is none, as Calico makes it."""
    try:
        return await client.get(CLUSTER_INFORMATION, "default", type=ClusterInformation)
    except NotFound:
        spec = {"clusterGUID": uuid.uuid4().hex, "clusterType": "k8s", "datastoreReady": True}
        body = {
            "apiVersion": "projectcalico.org/v3",
            "kind": "ClusterInformation",
            "metadata": {"name": "default"},
            "spec": spec,
        }
        try:
            return await client.create(CLUSTER_INFORMATION, body, type=ClusterInformation)
        except AlreadyExists:
            return await client.get(CLUSTER_INFORMATION, "default", type=ClusterInformation)


FIELDS = {field.encode_name for field in msgspec.structs.fields(IPPoolSpec)}


def given(values: PoolValues) -> list[dict[str, Any]]:
    """IPPools from the value `ipPools`: fields of IPPoolSpec and `name`. Raises PoolValueError."""
    pools: dict[str, dict[str, Any]] = {}
    for number, value in enumerate(values):
        spec = {key: content for key, content in value.items() if key != "name"}
        try:
            if unknown := sorted(spec.keys() - FIELDS):
                raise ValueError(f"{unknown[0]} is no field of IPPool")
            msgspec.convert(spec, IPPoolSpec)
            ipaddress.ip_network(spec["cidr"])
            name = value.get("name") or default_name(spec["cidr"])
            if not isinstance(name, str):
                raise ValueError(f"name {name!r} is no string")
            if name in pools:
                raise ValueError(f"name {name!r} is another pool's, too")
        except (ValueError, msgspec.ValidationError) as error:
            raise PoolValueError(f"ipPools[{number}]: {error}") from None
        pools[name] = pool(name, spec)
    return list(pools.values())


def kubeadm_pools(cidrs: Sequence[str]) -> list[dict[str, Any]]:
    """One pool per family for kubeadm's pod subnets: CrossSubnet VXLAN, NAT for IPv4 only."""
    pools = []
    for cidr in cidrs:
        six = ":" in cidr
        spec: dict[str, Any] = {"cidr": cidr, "blockSize": 122 if six else 26, "vxlanMode": "CrossSubnet"}
        if not six:
            spec["natOutgoing"] = True
        pools.append(pool(default_name(cidr), spec))
    return pools


def pool(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def default_name(cidr: str) -> str:
    """As Calico names its own."""
    return f"default-ipv{6 if ':' in cidr else 4}-ippool"


async def pod_subnets(client: Client) -> list[str]:
    """`networking.podSubnet` of kubeadm's ClusterConfiguration; empty in a cluster that is not kubeadm's."""
    try:
        found = await client.get(CONFIG_MAP, "kubeadm-config", namespace="kube-system", type=ConfigMap)
    except NotFound:
        return []
    text = found.data.get("ClusterConfiguration", "")
    try:
        configuration = msgspec.convert(yaml.safe_load(text) or {}, Kubeadm)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        log.warning("kubeadm's ClusterConfiguration is not understood", extra={"error": str(error)})
        return []
    return [subnet for cidr in configuration.networking.pod_subnet.split(",") if (subnet := masked(cidr.strip()))]


def masked(cidr: str) -> str:
    """Without host bits, which kubeadm lets pass; empty if it is no network."""
    try:
        return str(ipaddress.ip_network(cidr, strict=False))
    except ValueError:
        if cidr:
            log.warning("kubeadm's podSubnet is no network", extra={"cidr": cidr})
        return ""
