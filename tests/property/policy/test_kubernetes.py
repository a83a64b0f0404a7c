"""Random Kubernetes NetworkPolicies against a direct reading of the API's text (networking.k8s.io/v1, API reference):

a pod is isolated for a direction if a policy of its namespace selects it and lists that direction; an isolated pod may
have a connection only if a rule of one of those policies allows it; connections need both ends' consent.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tortie.policy.build import build, records
from tortie.policy.evaluate import evaluate
from tortie.policy.flows import Flow

from .objects import NAMESPACES, Json, named, pods, value
from .policies import kubernetes_policies
from .test_evaluator import SLOW

CONNECTIONS = [("TCP", 80), ("TCP", 8080), ("TCP", 443), ("UDP", 53), ("UDP", 80), ("SCTP", 80)]
STRANGERS = ["203.0.113.1", "2001:db8:9::9"]


@st.composite
def clusters(draw: st.DrawFn) -> list[Json]:
    documents = [
        named("Namespace", name, api="v1", labels=draw(st.dictionaries(st.just("env"), value, max_size=1)))
        for name in NAMESPACES
    ]
    documents += [draw(pods(index)) for index in range(3)]
    policies = draw(st.lists(kubernetes_policies(), min_size=1, max_size=4))
    return documents + [policy for policy in policies if policy["kind"] == "NetworkPolicy"]


End = tuple[Json | None, str]
"""The pod, if it is one, and the address."""


class Reading:
    def __init__(self, documents: list[Json]) -> None:
        self.namespaces = {
            d["metadata"]["name"]: d["metadata"]["labels"] for d in documents if d["kind"] == "Namespace"
        }
        policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
        self.policies = list({(d["metadata"]["namespace"], d["metadata"]["name"]): d for d in policies}.values())

    def allows(self, pod: Json, direction: str, other: End, server: Json | None, port: Any) -> bool:
        """`other`: who is at the other end; `server`: the pod that is connected to, whichever end it is."""
        selecting = [policy for policy in self.policies if self.isolates(policy, pod, direction)]
        rules = [
            (rule, policy["metadata"]["namespace"])
            for policy in selecting
            for rule in policy["spec"].get(direction.lower(), [])
        ]
        return not selecting or any(self.rule(rule, ns, direction, other, server, port) for rule, ns in rules)

    def isolates(self, policy: Json, pod: Json, direction: str) -> bool:
        """policyTypes: "If this field is not specified, it will default based on the existence of ingress or egress
        rules; policies that contain an egress section are assumed to affect egress, and all policies (whether or not
        they contain an ingress section) are assumed to affect ingress"."""
        spec = policy["spec"]
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
        same = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        return direction in types and same and selects(spec["podSelector"], pod["metadata"]["labels"])

    def rule(self, rule: Json, ns: str, direction: str, other: End, server: Json | None, port: Any) -> bool:
        """ "Traffic must match both ports and from." A missing or empty list of either matches all."""
        peers = rule.get("from" if direction == "Ingress" else "to") or [None]
        entries = rule.get("ports") or [None]
        return any(self.peer(each, ns, other) for each in peers) and any(
            matches_port(each, server, *port) for each in entries
        )

    def peer(self, entry: Json | None, namespace: str, other: End) -> bool:
        pod, address = other
        if entry is None:
            return True
        if "ipBlock" in entry:
            return within(address, entry["ipBlock"]["cidr"]) and not any(
                within(address, each) for each in entry["ipBlock"].get("except", [])
            )
        if pod is None:
            return False
        pods_namespace = pod["metadata"]["namespace"]
        if "namespaceSelector" in entry:
            if not selects(entry["namespaceSelector"], self.namespaces[pods_namespace]):
                return False
        elif pods_namespace != namespace:
            return False
        return "podSelector" not in entry or selects(entry["podSelector"], pod["metadata"]["labels"])


def selects(selector: Json, labels: dict[str, str]) -> bool:
    """ "The requirements are ANDed." NotIn and DoesNotExist hold for a label that is not there."""
    ok = all(labels.get(key) == wanted for key, wanted in selector.get("matchLabels", {}).items())
    for each in selector.get("matchExpressions", []):
        there = each["key"] in labels
        among = there and labels[each["key"]] in each.get("values", [])
        ok = ok and {"In": among, "NotIn": not among, "Exists": there, "DoesNotExist": not there}[each["operator"]]
    return ok


def matches_port(entry: Json | None, server: Json | None, protocol: str, number: int) -> bool:
    """ "If this field is not provided, this matches all port names and numbers"; protocol "defaults to TCP"; a name is
    "a numerical or named port on a pod"."""
    if entry is None:
        return True
    if entry.get("protocol", "TCP") != protocol:
        return False
    port = entry.get("port")
    if port is None:
        return True
    if isinstance(port, int):
        return port <= number <= entry.get("endPort", port)
    declared = server["spec"]["containers"][0]["ports"] if server else []
    return any(
        (each.get("name"), each.get("protocol", "TCP"), each["containerPort"]) == (port, protocol, number)
        for each in declared
    )


def within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False)


def common(left: list[str], right: list[str]) -> tuple[str, str] | None:
    pairs = ((a, b) for version in (4, 6) for a in left for b in right if is_of(a, version) and is_of(b, version))
    return next(pairs, None)


def is_of(address: str, version: int) -> bool:
    return (":" in address) == (version == 6)


@given(clusters())
@settings(SLOW, max_examples=200)
def test_network_policies_mean_what_kubernetes_says(documents: list[Json]) -> None:
    cluster, findings = build(records(documents))
    assert findings == []
    reading = Reading(documents)
    everybody = [d for d in documents if d["kind"] == "Pod"]
    taken: set[str] = set()
    for pod in everybody:
        own = {each["ip"] for each in pod["status"]["podIPs"]}
        if own & taken:
            return  # two pods with one address: Kubernetes' text knows no such thing
        taken |= own
    ends = [(f"pod:{d['metadata']['namespace']}/{d['metadata']['name']}", ips(d), d) for d in everybody]
    ends += [(f"ip:{address}", [address], None) for address in STRANGERS]
    for client, clients, source in ends:
        for server, servers, target in ends:
            pair = common(clients, servers)
            if pair is None or source is target:
                continue
            for port in CONNECTIONS:
                verdict = evaluate(cluster, Flow(source=client, target=server, protocol=port[0], port=port[1]))
                assert verdict.egress
                assert verdict.ingress
                sends = source is None or reading.allows(source, "Egress", (target, pair[1]), target, port)
                takes = target is None or reading.allows(target, "Ingress", (source, pair[0]), target, port)
                assert (verdict.egress.verdict == "allow") == sends, (client, server, port, verdict)
                assert (verdict.ingress.verdict == "allow") == takes, (client, server, port, verdict)


def ips(pod: Json) -> list[str]:
    return [each["ip"] for each in pod["status"]["podIPs"]]
