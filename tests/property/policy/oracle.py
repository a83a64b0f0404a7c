"""A second reading of Calico's semantics, straight from users' documents, on sets of packets.

It shares nothing with tortie: no record, no normal form, no selector parser, no rewriting. A namespace selector is
asked of the namespace, an account selector of the account, and a policy is a walk that splits sets of packets.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from .objects import ADDRESSES, PROTOCOLS, Json
from .selectors import TREES, holds
from .universe import ALL, FAMILY, FROM, TO, Kind, kinds, union


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


@dataclass
class Policy:
    document: Json
    tier: str
    order: float
    kind: str
    ingress: list[tuple[str, int]] = field(default_factory=list)
    """Action and the packets that the rule matches."""
    egress: list[tuple[str, int]] = field(default_factory=list)
    types: set[str] = field(default_factory=set)

    @property
    def tie(self) -> str:
        meta = self.document["metadata"]
        return f"{meta['name']}/{meta.get('namespace', '')}/{self.kind}"


class World:
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
        self.tiers = {
            "kube-admin": (1000.0, "Pass"),
            "default": (1e6, "Deny"),
            "kube-baseline": (1e7, "Pass"),
        }
        for tier in self.of("Tier"):
            spec = tier["spec"]
            self.tiers[tier["metadata"]["name"]] = spec.get("order", float("inf")), spec.get("defaultAction", "Deny")
        self.policies = [self.policy(d) for d in self.documents if d["kind"] in POLICY_KINDS]

    def of(self, kind: str) -> list[Json]:
        return [each for each in self.documents if each["kind"] == kind]

    # things

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

    # policies

    def policy(self, d: Json) -> Policy:
        kind, spec = d["kind"], d["spec"]
        if kind == "ClusterNetworkPolicy":
            tier = {"Admin": "kube-admin", "Baseline": "kube-baseline"}[spec["tier"]]
            policy = Policy(d, tier, spec["priority"], "KubernetesClusterNetworkPolicy")
            policy.ingress = [self.cluster_rule(rule, "from") for rule in spec.get("ingress", [])]
            policy.egress = [self.cluster_rule(rule, "to") for rule in spec.get("egress", [])]
            policy.types = {word for word in ("Ingress", "Egress") if spec.get(word.lower())}
        elif "podSelector" in spec:
            policy = Policy(d, "default", 1000, "KubernetesNetworkPolicy" if kind == "NetworkPolicy" else kind)
            namespace = d["metadata"]["namespace"]
            policy.ingress = [("Allow", self.kubernetes_rule(r, "from", namespace)) for r in spec.get("ingress", [])]
            policy.egress = [("Allow", self.kubernetes_rule(r, "to", namespace)) for r in spec.get("egress", [])]
            policy.types = set(spec.get("policyTypes", ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]))
        else:
            policy = Policy(d, spec.get("tier", "default"), spec.get("order", float("inf")), kind)
            namespace = d["metadata"].get("namespace", "")
            policy.ingress = [self.rule(rule, namespace) for rule in spec.get("ingress", [])]
            policy.egress = [self.rule(rule, namespace) for rule in spec.get("egress", [])]
            policy.types = set(spec.get("types", [])) or _default_types(spec)
        return policy

    def selects(self, policy: Policy, thing: Thing) -> bool:
        if thing.kind not in ("Pod", "HostEndpoint"):
            return False
        d, spec = policy.document, policy.document["spec"]
        namespace = d["metadata"].get("namespace", "")
        if namespace and thing.namespace != namespace:
            return False
        if d["kind"] == "ClusterNetworkPolicy":
            return self.cluster_pods(spec["subject"], thing)
        if "podSelector" in spec:
            return _kubernetes(spec["podSelector"], thing.own)
        # all() of a global policy is about namespaces or accounts as soon as it selects by these
        everything = True
        if spec.get("namespaceSelector"):
            everything = thing.namespace is not None
        elif spec.get("serviceAccountSelector") and not namespace:
            everything = thing.account is not None
        if spec.get("selector") and not holds(TREES[spec["selector"]], thing.labels, everything):
            return False
        if spec.get("namespaceSelector"):
            tree = TREES[spec["namespaceSelector"]]
            if not holds(tree, thing.namespace_labels, thing.namespace is not None):
                return False
        if spec.get("serviceAccountSelector"):
            everything = bool(namespace) or thing.account is not None
            return holds(TREES[spec["serviceAccountSelector"]], thing.account_labels, everything)
        return True

    # rules

    def rule(self, rule: Json, namespace: str) -> tuple[str, int]:
        action = rule["action"]
        if "metadata" in rule:
            return (action, 0) if action in ("Allow", "Log") else ("Deny", ALL)
        matched = ALL
        if "ipVersion" in rule:
            matched &= FAMILY[rule["ipVersion"]]
        if "protocol" in rule:
            matched &= kinds(lambda kind: kind.protocol == PROTOCOLS[rule["protocol"]])
        if "notProtocol" in rule:
            matched &= kinds(lambda kind: kind.protocol != PROTOCOLS[rule["notProtocol"]])
        if "icmp" in rule:
            matched &= kinds(lambda kind: _is_message(kind, rule["icmp"]))
        if "notICMP" in rule:
            matched &= kinds(lambda kind: not _is_message(kind, rule["notICMP"]))
        matched &= self.end(rule.get("source", {}), namespace, "sport")
        matched &= self.end(rule.get("destination", {}), namespace, "dport")
        return action, matched

    def end(self, entity: Json, namespace: str, port: str) -> int:
        """The packets that have a matching source or destination."""
        masks = FROM if port == "sport" else TO
        return union([masks[address] & self.at_address(entity, namespace, port, address) for address in ADDRESSES])

    def at_address(self, entity: Json, namespace: str, port: str, address: str) -> int:
        things = self.at[address]
        if "services" in entity:
            return self.backend(entity["services"], namespace, port, address)
        accounts = entity.get("serviceAccounts") or {}
        by_labels = "selector" in entity or "namespaceSelector" in entity or bool(accounts)
        if by_labels or (namespace and "notSelector" in entity):
            things = [thing for thing in things if self.chosen(entity, namespace, thing)]
            if not things:
                return 0
        if "notSelector" in entity:
            tree = TREES[entity["notSelector"]]
            if any(holds(tree, thing.labels) for thing in self.at[address]):
                return 0
        if "nets" in entity and not _within(address, entity["nets"]):
            return 0
        if "notNets" in entity and _within(address, entity["notNets"]):
            return 0
        matched = ALL
        if "ports" in entity:
            matched &= _ports(entity["ports"], things, port)
        if "notPorts" in entity:
            matched &= ~_ports(entity["notPorts"], things, port)
        return matched

    def chosen(self, entity: Json, namespace: str, thing: Thing) -> bool:
        selector = entity.get("namespaceSelector")
        if selector == "global()":
            if thing.namespace is not None:
                return False
        elif selector:
            if not holds(TREES[selector], thing.namespace_labels, thing.namespace is not None):
                return False
        elif namespace and thing.namespace != namespace:
            return False
        accounts = entity.get("serviceAccounts") or {}
        if accounts.get("names") and thing.account not in accounts["names"]:
            return False
        if accounts.get("selector") and not holds(TREES[accounts["selector"]], thing.account_labels):
            return False
        return "selector" not in entity or holds(TREES[entity["selector"]], thing.labels)

    def backend(self, service: Json, namespace: str, port: str, address: str) -> int:
        matched = 0
        for each in self.of("EndpointSlice"):
            if each["metadata"]["namespace"] != service.get("namespace", namespace):
                continue
            if any(address in endpoint["addresses"] for endpoint in each["endpoints"]):
                served = [(PROTOCOLS[p["protocol"]], p["port"]) for p in each["ports"]]
                matched |= ALL if port == "sport" else kinds(lambda k, s=served: (k.protocol, k.dport) in s)
        return matched

    def kubernetes_rule(self, rule: Json, peers: str, namespace: str) -> int:
        matched = 0
        masks = FROM if peers == "from" else TO
        for address in ADDRESSES:
            things = [self.at[address]] if not rule.get(peers) else []
            for peer in rule.get(peers, []):
                found = self.kubernetes_peer(peer, address, namespace)
                if found is not None:
                    things.append(found)
            if peers == "to":
                matched |= masks[address] & union([_kubernetes_ports(rule, found) for found in things])
            elif things:
                matched |= masks[address] & union(
                    [TO[target] & _kubernetes_ports(rule, self.at[target]) for target in ADDRESSES]
                )
        return matched

    def kubernetes_peer(self, peer: Json, address: str, namespace: str) -> list[Thing] | None:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            inside = _within(address, [block["cidr"]]) and not _within(address, block.get("except", []))
            return self.at[address] if inside else None
        pods = [thing for thing in self.at[address] if thing.kind == "Pod"]
        if "namespaceSelector" in peer:
            pods = [pod for pod in pods if _kubernetes(peer["namespaceSelector"], pod.namespace_labels)]
        else:
            pods = [pod for pod in pods if pod.namespace == namespace]
        if "podSelector" in peer:
            pods = [pod for pod in pods if _kubernetes(peer["podSelector"], pod.own)]
        return pods or None

    def cluster_pods(self, peer: Json, thing: Thing) -> bool:
        if thing.kind != "Pod":
            return False
        if "namespaces" in peer:
            return _kubernetes(peer["namespaces"], thing.namespace_labels)
        pods = peer["pods"]
        if not _kubernetes(pods.get("namespaceSelector", {}), thing.namespace_labels):
            return False
        return _kubernetes(pods["podSelector"], thing.own)

    def cluster_rule(self, rule: Json, peers: str) -> tuple[str, int]:
        action = {"Accept": "Allow"}.get(rule["action"], rule["action"])
        if "name" in rule:
            return ("Allow", 0) if action == "Allow" else ("Deny", ALL)
        matched = 0
        for address in ADDRESSES:
            for peer in rule[peers]:
                if "networks" in peer:
                    found = self.at[address] if _within(address, peer["networks"]) else None
                else:
                    found = [thing for thing in self.at[address] if self.cluster_pods(peer, thing)] or None
                if found is None:
                    continue
                if peers == "to":
                    matched |= TO[address] & _cluster_ports(rule, found)
                else:
                    matched |= FROM[address] & union(
                        [TO[target] & _cluster_ports(rule, self.at[target]) for target in ADDRESSES]
                    )
        return action, matched

    # verdicts

    def decided(self, thing: Thing, direction: str, hook: str) -> tuple[int, int]:
        """Packets that the policies of an endpoint allow, and those that they deny, at a hook; the rest they leave."""
        allowed = denied = 0
        left = ALL
        for tier in self.tiers_in_order():
            governing = [
                policy
                for policy in sorted((p for p in self.policies if p.tier == tier), key=lambda p: (p.order, p.tie))
                if direction in policy.types
                and "stagedAction" not in policy.document["spec"]
                and _counts_at(policy.document["spec"], hook)
                and self.selects(policy, thing)
            ]
            inside = left
            for policy in governing:
                for action, matched in policy.ingress if direction == "Ingress" else policy.egress:
                    hit = inside & matched
                    if action == "Log":
                        continue
                    inside &= ~hit
                    if action == "Allow":
                        allowed |= hit
                    elif action == "Deny":
                        denied |= hit
                    if action != "Pass":
                        left &= ~hit
            default = self.tiers.get(tier, (0, "Deny"))[1]
            if governing and default == "Deny" and hook not in ("preDNAT", "untracked"):
                denied |= inside
                left &= ~inside
        return allowed, denied

    def tiers_in_order(self) -> list[str]:
        missing = {policy.tier for policy in self.policies} - self.tiers.keys()
        return [*sorted(self.tiers, key=lambda name: (self.tiers[name][0], name)), *sorted(missing)]

    def by_profiles(self, thing: Thing, direction: str) -> int:
        """Packets that the profiles of an endpoint allow; all others they deny."""
        allowed, left = 0, ALL
        for name in thing.profiles:
            if name.startswith("kns.") or name == "projectcalico-default-allow":
                rules = [("Allow", ALL)]
            elif name.startswith("ksa."):
                rules = []
            elif name in self.profile_documents:
                rules = [self.rule(each, "") for each in self.profile_documents[name].get(direction.lower(), [])]
            else:
                rules = [("Deny", ALL)]
            for action, matched in rules:
                if action == "Allow":
                    allowed |= left & matched
                if action != "Log":
                    left &= ~matched
        return allowed

    def passes(self, thing: Thing, direction: str, hook: str) -> int:
        """Packets that an endpoint lets through at a hook where its word is final."""
        allowed, denied = self.decided(thing, direction, hook)
        rest = self.by_profiles(thing, direction) if hook in ("workload", "normal") else ALL
        return allowed | (rest & ~denied)


POLICY_KINDS = {
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "ClusterNetworkPolicy",
}


def _identity(d: Json) -> tuple[Any, ...]:
    return d["apiVersion"], d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]


def _key(d: Json) -> str:
    meta = d["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])


def _default_types(spec: Json) -> set[str]:
    if spec.get("ingress") and spec.get("egress"):
        return {"Ingress", "Egress"}
    return {"Egress"} if spec.get("egress") else {"Ingress"}


def _counts_at(spec: Json, hook: str) -> bool:
    if spec.get("doNotTrack") or spec.get("preDNAT"):
        return hook == ("untracked" if spec.get("doNotTrack") else "preDNAT")
    return {"forward": bool(spec.get("applyOnForward")), "workload": True, "normal": True}.get(hook, False)


def _kubernetes(selector: Json, labels: dict[str, str]) -> bool:
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions", []):
        key, values = each["key"], each.get("values")
        answers = {
            "In": key in labels and labels[key] in (values or ()),
            "NotIn": labels.get(key) not in (values or ()),
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not answers[each["operator"]]:
            return False
    return True


def _is_message(kind: Kind, icmp: Json) -> bool:
    return kind.type == icmp["type"] and ("code" not in icmp or kind.code == icmp["code"])


def _within(address: str, nets: list[str]) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(net, strict=False) for net in nets)


def _ports(ports: list[Any], things: list[Thing], which: str) -> int:
    named = [port for thing in things for port in thing.ports]
    return kinds(lambda kind: any(_is_port(each, kind, getattr(kind, which), named) for each in ports))


def _is_port(each: Any, kind: Kind, number: int | None, named: list[tuple[str, int, int]]) -> bool:
    if number is None:
        return False
    if isinstance(each, str) and not each[0].isdigit():
        return (each, kind.protocol, number) in named
    first, _, last = str(each).partition(":")
    return int(first) <= number <= int(last or first)


def _kubernetes_ports(rule: Json, things: list[Thing]) -> int:
    if not rule.get("ports"):
        return ALL
    matched = 0
    for entry in rule["ports"]:
        of_protocol = kinds(lambda kind, e=entry: kind.protocol == PROTOCOLS[e.get("protocol", "TCP")])
        if "port" in entry:
            port = f"{entry['port']}:{entry['endPort']}" if "endPort" in entry else entry["port"]
            of_protocol &= _ports([port], things, "dport")
        matched |= of_protocol
    return matched


def _cluster_ports(rule: Json, things: list[Thing]) -> int:
    if "protocols" not in rule:
        return ALL
    matched = 0
    for entry in rule["protocols"]:
        if "destinationNamedPort" in entry:
            matched |= _ports([entry["destinationNamedPort"]], things, "dport")
            continue
        ((name, match),) = entry.items()
        of_protocol = kinds(lambda kind, n=name: kind.protocol == PROTOCOLS[n.upper()])
        port = match.get("destinationPort")
        if port:
            span = port["range"] if "range" in port else {"start": port["number"], "end": port["number"]}
            of_protocol &= _ports([f"{span['start']}:{span['end']}"], things, "dport")
        matched |= of_protocol
    return matched
