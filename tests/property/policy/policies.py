"""Random policies of every kind as users write them, and clusters with them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .objects import (
    NAMESPACES,
    NETS,
    NODES,
    PORTS,
    SOURCE_PORTS,
    Json,
    account_selector,
    host_selector,
    labels,
    named,
    namespace_selector,
    optional,
    surroundings,
    value,
    workload_selector,
)


@st.composite
def entities(draw: st.DrawFn, end: str, direction: str, family: int, has_ports: bool, namespace: str) -> Json:
    services_end = "source" if direction == "Ingress" else "destination"
    if end == services_end and draw(st.integers(0, 6)) == 0:
        where = {} if namespace and draw(st.booleans()) else {"namespace": draw(st.sampled_from(["red", "blue"]))}
        return {"services": {"name": "svc", **where}}
    fields = draw(
        optional(
            nets=st.lists(st.sampled_from(NETS[family]), min_size=1, max_size=2, unique=True),
            notNets=st.lists(st.sampled_from(NETS[family][:-1]), min_size=1, max_size=2, unique=True),
            selector=workload_selector,
            notSelector=workload_selector,
            namespaceSelector=st.one_of(namespace_selector, st.sampled_from(["all()", "global()"])),
            serviceAccounts=optional(
                names=st.lists(st.sampled_from(["robot", "default"]), min_size=1, max_size=2, unique=True),
                selector=account_selector,
            ),
        )
    )
    for name in draw(st.sets(st.sampled_from(sorted(fields)), min_size=max(0, len(fields) - 2))) if fields else ():
        del fields[name]
    if has_ports:
        ports = st.lists(st.sampled_from(PORTS if end == "destination" else SOURCE_PORTS), min_size=1, max_size=2)
        share = st.integers(0, 1 if end == "destination" else 5)
        if draw(share) == 0:
            fields["ports"] = draw(ports)
        if draw(st.integers(0, 5)) == 0:
            fields["notPorts"] = draw(ports)
    return fields


BROKEN: list[Json] = [
    {"source": {"nets": ["10.0.0.1/8"]}},
    {"destination": {"notNets": ["0.0.0.0/0"]}},
    {"protocol": "FTP"},
    {"protocol": 256},
    {"source": {"selector": "a = 'x'"}},
    {"source": {"selector": "global()"}},
    {"destination": {"notSelector": "has(a"}},
    {"source": {"namespaceSelector": "global() || has(a)"}},
    {"destination": {"ports": [80]}},
    {"protocol": "ICMP", "destination": {"ports": [80]}},
    {"protocol": "TCP", "destination": {"ports": ["90:80"]}},
    {"protocol": "TCP", "destination": {"ports": [0]}},
    {"protocol": "ICMP", "icmp": {"code": 1}},
    {"icmp": {"type": 8}},
    {"ipVersion": 5},
    {"ipVersion": 6, "protocol": "ICMP"},
    {"ipVersion": 6, "source": {"nets": ["10.0.0.0/8"]}},
    {"source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["fd00::/16"]}},
    {"source": {"services": {"name": "svc", "namespace": "red"}, "nets": ["10.0.0.0/8"]}},
    {"source": {"services": {"namespace": "red"}}},
    {"http": {"methods": ["GET"]}},
]
"""Parts of a rule that are not understood. Whoever has one is marked, so that the oracle need not find out."""


@st.composite
def rules(draw: st.DrawFn, direction: str, namespace: str) -> Json:
    rule: Json = {"action": draw(st.sampled_from(["Allow", "Allow", "Deny", "Deny", "Pass", "Log"]))}
    if draw(st.integers(0, 12)) == 0:
        return rule | draw(st.sampled_from(BROKEN)) | {"metadata": {"annotations": {"broken": "yes"}}}
    if draw(st.integers(0, 5)) == 0:
        rule["ipVersion"] = draw(st.sampled_from([4, 6]))
    family = rule.get("ipVersion") or draw(st.sampled_from([4, 4, 6]))
    icmp = {4: "ICMP", 6: "ICMPv6"}[family]
    protocol = draw(st.sampled_from([None, None, "TCP", "TCP", "UDP", "SCTP", icmp, 6, 47]))
    if protocol is not None:
        rule["protocol"] = protocol
    if draw(st.integers(0, 7)) == 0:
        rule["notProtocol"] = draw(st.sampled_from(["TCP", "UDP", icmp, 47]))
    messages = st.fixed_dictionaries({"type": st.sampled_from([3, 8, 128])}, optional={"code": st.sampled_from([0, 1])})
    if protocol == icmp and draw(st.booleans()):
        rule["icmp"] = draw(messages)
    if draw(st.integers(0, 7)) == 0:
        rule["notICMP"] = draw(messages)
    has_ports = protocol in ("TCP", "UDP", "SCTP", 6)
    for end in ("source", "destination"):
        entity = draw(entities(end, direction, family, has_ports, namespace))
        if entity:
            rule[end] = entity
    return rule


def rule_lists(direction: str, namespace: str) -> st.SearchStrategy[list[Json]]:
    return st.lists(rules(direction, namespace), max_size=3)


def calico_spec(namespace: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return optional(
        order=st.sampled_from([1, 1, 2.5, 1000]),
        tier=st.sampled_from(["default", "first", "last", "ghost", "kube-baseline"]),
        types=st.sampled_from([["Ingress"], ["Egress"], ["Egress", "Ingress"]]),
        ingress=rule_lists("Ingress", namespace),
        egress=rule_lists("Egress", namespace),
        **more,
    )


names = st.sampled_from(["p", "q", "r"])
STAGED = st.sampled_from(["Set", "Learn", "Ignore"])


@st.composite
def network_policies(draw: st.DrawFn) -> Json:
    namespace = draw(st.sampled_from(NAMESPACES[:2]))
    selection = {"selector": workload_selector, "serviceAccountSelector": account_selector}
    spec = draw(calico_spec(namespace, **selection))
    if draw(st.integers(0, 6)) == 0:
        spec["stagedAction"] = draw(STAGED)
        return named("StagedNetworkPolicy", draw(names), spec, namespace=namespace)
    return named("NetworkPolicy", draw(names), spec, namespace=namespace)


@st.composite
def global_policies(draw: st.DrawFn, hosts: bool) -> Json:
    if hosts:
        spec = draw(calico_spec("", selector=host_selector))
        hook = draw(st.sampled_from(["normal", "normal", "applyOnForward", "preDNAT", "doNotTrack"]))
        if hook != "normal":
            spec |= {"applyOnForward": True, hook: True}
        if hook == "preDNAT":
            spec.pop("egress", None)
            spec.pop("types", None)
        return named("GlobalNetworkPolicy", draw(names), spec)
    selection = {
        "selector": workload_selector,
        "serviceAccountSelector": account_selector,
        "namespaceSelector": namespace_selector,
    }
    spec = draw(calico_spec("", **selection))
    if draw(st.integers(0, 6)) == 0:
        spec["stagedAction"] = draw(STAGED)
        return named("StagedGlobalNetworkPolicy", draw(names), spec)
    return named("GlobalNetworkPolicy", draw(names), spec)


requirement = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b", "env"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(value, min_size=1, max_size=2, unique=True),
        }
    ),
    st.fixed_dictionaries(
        {"key": st.sampled_from(["a", "b", "env"]), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
    ),
)


def label_selectors(*keys: str) -> st.SearchStrategy[Json]:
    return optional(
        matchLabels=st.dictionaries(st.sampled_from(keys), value, min_size=1, max_size=2),
        matchExpressions=st.lists(requirement, min_size=1, max_size=2),
    )


pods_selector, namespaces_selector = label_selectors("a", "b"), label_selectors("env")

kubernetes_port = st.one_of(
    optional(protocol=st.sampled_from(["TCP", "UDP", "SCTP"]), port=st.sampled_from([80, 443, "http", "dns"])),
    st.just({"port": 80, "endPort": 8080}),
)


@st.composite
def ip_blocks(draw: st.DrawFn) -> Json:
    family = draw(st.sampled_from([4, 6]))
    block = {"cidr": draw(st.sampled_from([*NETS[family], {4: "10.0.0.3/24", 6: "fd00::9/64"}[family]]))}
    if draw(st.booleans()):
        block["except"] = draw(st.lists(st.sampled_from(NETS[family][:-1]), min_size=1, max_size=2, unique=True))
    return block


kubernetes_peer = st.one_of(
    st.fixed_dictionaries({"podSelector": pods_selector}),
    st.fixed_dictionaries({"namespaceSelector": namespaces_selector}),
    st.fixed_dictionaries({"podSelector": pods_selector, "namespaceSelector": namespaces_selector}),
    ip_blocks().map(lambda block: {"ipBlock": block}),
)


def kubernetes_rules(peers: str) -> st.SearchStrategy[list[Json]]:
    rule = optional(
        **{peers: st.lists(kubernetes_peer, max_size=2)},
        ports=st.lists(kubernetes_port, max_size=2),
    )
    return st.lists(rule, max_size=2)


@st.composite
def kubernetes_policies(draw: st.DrawFn) -> Json:
    spec = draw(
        optional(
            ingress=kubernetes_rules("from"),
            egress=kubernetes_rules("to"),
            policyTypes=st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        )
    )
    spec["podSelector"] = draw(pods_selector)
    namespace, name = draw(st.sampled_from(NAMESPACES[:2])), draw(names)
    if draw(st.integers(0, 6)) == 0:
        spec["stagedAction"] = "Set"
        return named("StagedKubernetesNetworkPolicy", name, spec, namespace=namespace)
    return named("NetworkPolicy", name, spec, api="networking.k8s.io/v1", namespace=namespace)


namespaced_pods = st.fixed_dictionaries(
    {"podSelector": pods_selector}, optional={"namespaceSelector": namespaces_selector}
)
cluster_peer = st.one_of(
    st.fixed_dictionaries({"namespaces": namespaces_selector}), st.fixed_dictionaries({"pods": namespaced_pods})
)
networks = st.sampled_from([4, 6]).flatmap(
    lambda family: st.lists(st.sampled_from(NETS[family]), min_size=1, max_size=2, unique=True)
)
port_match = st.sampled_from(
    [{}, {"destinationPort": {"number": 80}}, {"destinationPort": {"range": {"start": 80, "end": 443}}}]
)
cluster_protocol = st.one_of(
    st.tuples(st.sampled_from(["tcp", "udp", "sctp"]), port_match).map(lambda pair: {pair[0]: pair[1]}),
    st.just({"destinationNamedPort": "http"}),
)


@st.composite
def cluster_rules(draw: st.DrawFn, peers: str) -> Json:
    rule: Json = {"action": draw(st.sampled_from(["Accept", "Deny", "Pass"]))}
    if peers == "to" and draw(st.booleans()):
        rule["to"] = [{"networks": draw(networks)}]
        plain = cluster_protocol.filter(lambda each: "destinationNamedPort" not in each)
        return rule | draw(optional(protocols=st.lists(plain, min_size=1, max_size=2)))
    rule[peers] = draw(st.lists(cluster_peer, min_size=1, max_size=2))
    if draw(st.integers(0, 10)) == 0:
        rule[peers] = [draw(st.sampled_from([{}, {"nodes": {}}, {"domainNames": ["a.example"]}]))]
        rule["name"] = "broken"
    return rule | draw(optional(protocols=st.lists(cluster_protocol, min_size=1, max_size=2)))


@st.composite
def cluster_policies(draw: st.DrawFn) -> Json:
    spec = {
        "tier": draw(st.sampled_from(["Admin", "Baseline"])),
        "priority": draw(st.sampled_from([0, 1, 1])),
        "subject": draw(cluster_peer),
    } | draw(
        optional(ingress=st.lists(cluster_rules("from"), max_size=2), egress=st.lists(cluster_rules("to"), max_size=2))
    )
    return named("ClusterNetworkPolicy", draw(names), spec, api="policy.networking.k8s.io/v1alpha2")


@st.composite
def host_endpoints(draw: st.DrawFn) -> list[Json]:
    documents: list[Json] = []
    profile_rules = st.lists(rules("Ingress", ""), max_size=1)
    profiles = st.sampled_from(["own", "projectcalico-default-allow", "missing"])
    documents.append(named("Profile", "own", {"ingress": draw(profile_rules), "labelsToApply": {"a": "x"}}))
    for node in NODES:
        for interface in sorted(draw(st.sets(st.sampled_from(["*", "eth0", ""]), max_size=2))):
            spec: Json = {
                "node": node,
                "profiles": draw(st.lists(profiles, max_size=2, unique=True)),
                "ports": draw(st.lists(st.just({"name": "http", "protocol": "TCP", "port": 443}), max_size=1)),
            }
            if interface:
                spec["interfaceName"] = interface
            if not interface or draw(st.booleans()):
                spec["expectedIPs"] = NODES[node]
            name = f"{node}-{interface.replace('*', 'all') or 'auto'}"
            documents.append(named("HostEndpoint", name, spec, labels={"host": "x", **draw(labels)}))
    if draw(st.booleans()):
        action = st.sampled_from(["Drop", "Accept", "Return"])
        spec = {"defaultEndpointToHostAction": draw(action)}
        if draw(st.booleans()):
            spec["failsafeInboundHostPorts"] = [{"protocol": "tcp", "port": 443, "net": "203.0.113.0/24"}]
        if draw(st.booleans()):
            spec["failsafeOutboundHostPorts"] = [{"protocol": "udp", "port": 53}]
        documents.append(named("FelixConfiguration", "default", spec))
    return documents


def clusters() -> st.SearchStrategy[list[Json]]:
    policies = st.one_of(
        network_policies(),
        global_policies(hosts=False),
        kubernetes_policies(),
        cluster_policies(),
    )
    return st.tuples(surroundings(), st.lists(policies, min_size=1, max_size=5)).map(lambda parts: parts[0] + parts[1])


def host_clusters() -> st.SearchStrategy[list[Json]]:
    policies = st.one_of(global_policies(hosts=True), global_policies(hosts=True), network_policies())
    parts = st.tuples(surroundings(), host_endpoints(), st.lists(policies, min_size=1, max_size=5))
    return parts.map(lambda parts: parts[0] + parts[1] + parts[2])
