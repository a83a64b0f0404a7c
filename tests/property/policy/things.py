"""Who has which addresses, labels and ports: the ends of packets, straight from users' documents."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from .objects import ADDRESSES, PROTOCOLS, Json


@dataclass
class Thing:
    """Something with addresses: a pod, a host endpoint, a network set."""

    kind: str
    name: str
    own: dict[str, str]
    namespace: str | None = None
    account: str | None = None
    nets: list[str] = field(default_factory=list)
    ports: list[tuple[str, int, int]] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    account_labels: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def has(self, address: str) -> bool:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(net, strict=False) for net in self.nets)


class Things:
    def __init__(self, documents: list[Json]) -> None:
        self.documents = list({_identity(each): each for each in documents}.values())
        self.namespaces = {d["metadata"]["name"]: d["metadata"]["labels"] for d in self.of("Namespace")}
        self.accounts = {_key(d): d["metadata"]["labels"] for d in self.of("ServiceAccount")}
        self.profile_documents = {d["metadata"]["name"]: d["spec"] for d in self.of("Profile")}
        self.things = [
            *map(self.pod, self.of("Pod")),
            *map(self.host, self.of("HostEndpoint")),
            *map(self.network_set, [*self.of("NetworkSet"), *self.of("GlobalNetworkSet")]),
        ]
        self.at = {address: [thing for thing in self.things if thing.has(address)] for address in ADDRESSES}

    def of(self, kind: str) -> list[Json]:
        return [each for each in self.documents if each["kind"] == kind]

    def pod(self, d: Json) -> Thing:
        meta, namespace = d["metadata"], d["metadata"]["namespace"]
        account = d["spec"].get("serviceAccountName", "default")
        own = {key: v for key, v in meta["labels"].items() if not key.startswith(("pcns.", "pcsa."))}
        ports = [
            (port["name"], PROTOCOLS[port.get("protocol", "TCP")], port["containerPort"])
            for port in d["spec"]["containers"][0]["ports"]
            if "name" in port
        ]
        thing = Thing("Pod", _key(d), own, namespace, account, ports=ports)
        thing.nets = [each["ip"] for each in d["status"]["podIPs"]]
        thing.profiles = [f"kns.{namespace}", f"ksa.{namespace}.{account}"]
        special = {"projectcalico.org/namespace": namespace, "projectcalico.org/serviceaccount": account}
        thing.own = own | special | {"projectcalico.org/orchestrator": "k8s"}
        return self.with_inherited(thing)

    def host(self, d: Json) -> Thing:
        spec = d["spec"]
        inherited: dict[str, str] = {}
        for profile in spec["profiles"]:
            inherited |= self.profile_documents.get(profile, {}).get("labelsToApply", {})
        ports = [(port["name"], PROTOCOLS[port["protocol"]], port["port"]) for port in spec["ports"]]
        thing = Thing("HostEndpoint", d["metadata"]["name"], inherited | d["metadata"]["labels"], ports=ports)
        thing.nets, thing.profiles = spec.get("expectedIPs", []), spec["profiles"]
        return self.with_inherited(thing)

    def network_set(self, d: Json) -> Thing:
        namespace = d["metadata"].get("namespace")
        special = {"projectcalico.org/namespace": namespace} if namespace else {}
        thing = Thing(d["kind"], _key(d), d["metadata"]["labels"] | special, namespace, nets=d["spec"]["nets"])
        return self.with_inherited(thing)

    def with_inherited(self, thing: Thing) -> Thing:
        if thing.namespace:
            name = {"projectcalico.org/name": thing.namespace, "kubernetes.io/metadata.name": thing.namespace}
            thing.namespace_labels = self.namespaces[thing.namespace] | name
        if thing.account:
            labels = self.accounts.get(f"{thing.namespace}/{thing.account}", {})
            thing.account_labels = labels | {"projectcalico.org/name": thing.account}
        prefixed = {f"pcns.{key}": v for key, v in thing.namespace_labels.items()}
        prefixed |= {f"pcsa.{key}": v for key, v in thing.account_labels.items()}
        thing.labels = prefixed | thing.own
        return thing


def _identity(d: Json) -> tuple[Any, ...]:
    return d["apiVersion"], d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]


def _key(d: Json) -> str:
    meta = d["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])
