"""Clusters of a given size, made from a seed: what an operator would have listed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tortie.api import networking, policies
from tortie.api.calico import IPPool
from tortie.api.kubernetes import Namespace, Node, Pod, ServiceAccount
from tortie.api.rules import EntityRule, Rule

SEED = 20260824
PODS_A_NODE = 100
APPS, TEAMS = 8, 50


@dataclass(frozen=True)
class Size:
    """`mix`: kubernetes (NetworkPolicies by pod and namespace labels), calico (NetworkPolicies in two tiers, by labels
    and nets) or global (GlobalNetworkPolicies, each over some namespaces, with negations and set members)."""

    pods: int
    namespaces: int
    policies: int
    mix: str


def objects(size: Size) -> Iterator[tuple[str, Any]]:
    """(what the operator's world calls the kind, object) of everything in the cluster."""
    rng = random.Random(SEED)
    nodes = max(1, size.pods // PODS_A_NODE)
    yield from (("nodes", made(Node, node(number))) for number in range(nodes))
    for number in range(size.namespaces):
        labels = {"team": f"t{number % TEAMS}", "kubernetes.io/metadata.name": f"ns{number}"}
        yield "namespaces", made(Namespace, {"metadata": meta(f"ns{number}", labels=labels)})
        yield "serviceaccounts", made(ServiceAccount, {"metadata": meta("default", f"ns{number}")})
    for family, cidr, size_of in ((4, "10.0.0.0/8", 26), (6, "fd00::/48", 122)):
        spec = {"cidr": cidr, "blockSize": size_of, "vxlanMode": "CrossSubnet"}
        yield "ippools", made(IPPool, {"metadata": meta(f"pool{family}"), "spec": spec})
    for number in range(size.pods):
        yield "pods", made(Pod, pod(number, size.namespaces, nodes))
    for number in range(size.policies):
        yield policy(rng, number, size)


def made(record: type[Any], obj: Any) -> Any:
    return msgspec.convert(obj, record)


_versions = iter(range(1, 1 << 60))


def meta(name: str, namespace: str = "", labels: dict[str, str] | None = None) -> dict[str, Any]:
    version = next(_versions)
    found = {"name": name, "uid": f"uid-{version}", "resourceVersion": str(version), "generation": 1}
    return {**found, **({"namespace": namespace} if namespace else {}), **({"labels": labels} if labels else {})}


def node(number: int) -> dict[str, Any]:
    addresses = [
        {"type": "InternalIP", "address": f"172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}"},
        {"type": "InternalIP", "address": f"fd20::{number:x}"},
    ]
    conditions = [{"type": "Ready", "status": "True"}]
    return {"metadata": meta(f"node{number}"), "status": {"addresses": addresses, "conditions": conditions}}


def pod(number: int, namespaces: int, nodes: int) -> dict[str, Any]:
    app = f"app{number // namespaces % APPS}"
    labels = {"app": app, "tier": f"tier{number % 3}", "pod-template-hash": f"{number % 977:x}"}
    ports = [{"name": "http", "containerPort": 8080}]
    spec = {"nodeName": f"node{number % nodes}", "containers": [{"name": "main", "ports": ports}]}
    return {
        "metadata": meta(f"{app}-{number}", f"ns{number % namespaces}", labels),
        "spec": {**spec, "serviceAccountName": "default"},
        "status": {"phase": "Running"},
    }


def policy(rng: random.Random, number: int, size: Size) -> tuple[str, Any]:
    namespace = f"ns{number % size.namespaces}"
    match size.mix:
        case "kubernetes":
            peers = [
                {"podSelector": {"matchLabels": {"app": f"app{rng.randrange(APPS)}"}}},
                {"namespaceSelector": {"matchLabels": {"team": f"t{rng.randrange(TEAMS)}"}}},
            ]
            rule = {"from": peers, "ports": [{"protocol": "TCP", "port": 8080}, {"protocol": "UDP", "port": 53}]}
            spec = {"podSelector": {"matchLabels": {"app": f"app{number % APPS}"}}, "ingress": [rule]}
            metadata = meta(f"p{number}", namespace)
            return "knp", made(networking.NetworkPolicy, {"metadata": metadata, "spec": spec})
        case "calico":
            rules = tuple(calico_rule(rng) for _ in range(10))
            spec_ = policies.NetworkPolicySpec(
                tier=rng.choice(["default", "security"]),
                order=float(rng.randrange(1000)),
                selector=f"app == 'app{number % APPS}'",
                ingress=rules,
            )
            return "np", made(
                policies.NetworkPolicy,
                {"metadata": meta(f"p{number}", namespace), "spec": msgspec.to_builtins(spec_)},
            )
        case "global":
            teams = ", ".join(f"'t{team}'" for team in rng.sample(range(TEAMS), 3))
            spec__ = policies.GlobalNetworkPolicySpec(
                order=float(rng.randrange(1000)),
                selector=f"app == 'app{number % APPS}' && tier != 'tier{rng.randrange(3)}'",
                namespace_selector=f"team in {{{teams}}}",
                ingress=tuple(calico_rule(rng) for _ in range(10)),
            )
            return "gnp", made(
                policies.GlobalNetworkPolicy,
                {"metadata": meta(f"p{number}"), "spec": msgspec.to_builtins(spec__)},
            )
    raise ValueError(f"mix {size.mix!r}: kubernetes, calico or global")


def calico_rule(rng: random.Random) -> Rule:
    app, _ = f"app{rng.randrange(APPS)}", f"t{rng.randrange(TEAMS)}"
    source = rng.choice(
        [
            EntityRule(selector=f"app == '{app}'"),
            EntityRule(
                selector=f"app != '{app}' && has(tier)", namespace_selector=f"team == 't{rng.randrange(TEAMS)}'"
            ),
            EntityRule(nets=(f"10.{rng.randrange(256)}.0.0/16",), not_nets=(f"10.{rng.randrange(256)}.1.0/24",)),
        ]
    )
    action = rng.choice(["Allow", "Allow", "Deny"])
    destination = EntityRule(ports=(rng.randrange(1, 65536), "http"))
    return Rule(action=action, protocol="TCP", source=source, destination=destination)
