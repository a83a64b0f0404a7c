"""Which packets a rule matches, as sets of packets: Calico's rules, Kubernetes' and those of ClusterNetworkPolicy."""

from __future__ import annotations

import ipaddress
from typing import Any

from .objects import ADDRESSES, PROTOCOLS, Json
from .selectors import TREES, holds
from .things import Thing, Things
from .universe import ALL, FAMILY, FROM, TO, Kind, kinds, union


class Reading(Things):
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
            pods = [pod for pod in pods if kubernetes(peer["namespaceSelector"], pod.namespace_labels)]
        else:
            pods = [pod for pod in pods if pod.namespace == namespace]
        if "podSelector" in peer:
            pods = [pod for pod in pods if kubernetes(peer["podSelector"], pod.own)]
        return pods or None

    def cluster_pods(self, peer: Json, thing: Thing) -> bool:
        if thing.kind != "Pod":
            return False
        if "namespaces" in peer:
            return kubernetes(peer["namespaces"], thing.namespace_labels)
        pods = peer["pods"]
        if not kubernetes(pods.get("namespaceSelector", {}), thing.namespace_labels):
            return False
        return kubernetes(pods["podSelector"], thing.own)

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


def kubernetes(selector: Json, labels: dict[str, str]) -> bool:
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
