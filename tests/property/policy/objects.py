"""What is in random clusters beside policies: plain documents over a universe small enough to enumerate."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .selectors import selectors

Json = dict[str, Any]

NAMESPACES = ["red", "blue", "green"]
NODES = {"n1": ["192.0.2.1", "2001:db8:1::1"], "n2": ["192.0.2.2", "2001:db8:1::2"]}
POD_ADDRESSES = [("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2"), ("10.0.0.3", "fd00::3"), ("10.0.0.4", "fd00::4")]
OUTSIDE = ["203.0.113.1", "198.51.100.9", "2001:db8:9::9"]
ADDRESSES = [*(each for both in POD_ADDRESSES for each in both), *NODES["n1"], *NODES["n2"], *OUTSIDE]
NETS = {
    4: ["10.0.0.0/31", "10.0.0.2/32", "10.0.0.0/8", "192.0.2.0/24", "203.0.113.0/30", "0.0.0.0/0"],
    6: ["fd00::/127", "fd00::3/128", "fd00::/16", "2001:db8:1::/64", "2001:db8::/32", "::/0"],
}
PROTOCOLS: dict[Any, int] = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58, "UDPLite": 136, 6: 6, 47: 47}
PORTS = [80, 443, "80:443", "8000:8999", "http", "dns", 53, "1:65535", 8080]
SOURCE_PORTS = [1000, "1000:1999", "2000:65535", "http"]

value = st.sampled_from(["x", "y"])
labels = st.dictionaries(st.sampled_from(["a", "b"]), value, max_size=2)
pod_labels = st.dictionaries(st.sampled_from(["a", "b", "pcns.env", "pcsa.role"]), value, max_size=3)
workload_selector = selectors(["a", "b", "pcns.env", "projectcalico.org/namespace"], ["x", "y", "red", "blue"])
host_selector = st.one_of(selectors(["a", "host"], ["x", "y"]), st.just("has(host)"))
namespace_selector = selectors(["env", "projectcalico.org/name"], ["x", "y", "red", "blue"])
account_selector = selectors(["role", "projectcalico.org/name"], ["x", "y", "robot"])


def named(kind: str, name: str, spec: Json | None = None, *, api: str = "projectcalico.org/v3", **meta: Any) -> Json:
    document: Json = {"apiVersion": api, "kind": kind, "metadata": {"name": name, **meta}}
    return document if spec is None else document | {"spec": spec}


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Each field in about half of the cases."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def pods(draw: st.DrawFn, index: int) -> Json:
    # two pods may have one address for a moment, as in a live migration
    both = POD_ADDRESSES[draw(st.sampled_from([index, index, index, index, 0]))]
    addresses = draw(st.sampled_from([both, both[:1], both[1:]]))
    ports = draw(
        st.lists(
            st.sampled_from(
                [
                    {"name": "http", "containerPort": 80},
                    {"name": "http", "containerPort": 8080},
                    {"name": "http", "containerPort": 80, "protocol": "UDP"},
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                    {"containerPort": 443},
                ]
            ),
            max_size=2,
        )
    )
    pod = named("Pod", f"pod{index}", api="v1", namespace=draw(st.sampled_from(NAMESPACES)), labels=draw(pod_labels))
    pod["spec"] = {"nodeName": draw(st.sampled_from(["n1", "n2"])), "containers": [{"name": "c", "ports": ports}]}
    if draw(st.booleans()):
        pod["spec"]["serviceAccountName"] = "robot"
    pod["status"] = {"phase": "Running", "podIPs": [{"ip": address} for address in addresses]}
    return pod


@st.composite
def surroundings(draw: st.DrawFn) -> list[Json]:
    """Everything but policies."""
    documents: list[Json] = []
    for name in NAMESPACES:
        env = draw(st.dictionaries(st.just("env"), value, max_size=1))
        documents.append(named("Namespace", name, api="v1", labels=env))
        role = draw(st.dictionaries(st.just("role"), value, max_size=1))
        documents.append(named("ServiceAccount", "robot", api="v1", namespace=name, labels=role))
    for name, addresses in NODES.items():
        node = named("Node", name, api="v1")
        node["status"] = {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}
        documents.append(node)
    documents += [draw(pods(index)) for index in range(draw(st.integers(2, 4)))]
    nets = st.lists(st.sampled_from([*NETS[4][:-1], *NETS[6][:-1], "10.0.0.3/8", "203.0.113.1"]), max_size=2)
    documents += [
        named("GlobalNetworkSet", "gns", {"nets": draw(nets)}, labels=draw(labels)),
        named(
            "NetworkSet", "ns", {"nets": draw(nets)}, labels=draw(labels), namespace=draw(st.sampled_from(NAMESPACES))
        ),
        named("Tier", "first", draw(optional(order=st.just(5), defaultAction=st.sampled_from(["Pass", "Deny"])))),
        named("Tier", "last", {"defaultAction": draw(st.sampled_from(["Pass", "Deny"]))}),
    ]
    documents += [draw(slices(each)) for each in sorted(draw(st.sets(st.sampled_from(["red", "blue"]))))]
    return documents


@st.composite
def slices(draw: st.DrawFn, namespace: str) -> Json:
    meta = {"namespace": namespace, "labels": {"kubernetes.io/service-name": "svc"}}
    document = named("EndpointSlice", "svc-1", api="discovery.k8s.io/v1", **meta)
    backends = draw(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "203.0.113.1"]), max_size=2, unique=True))
    ports = draw(st.lists(st.sampled_from([("TCP", 80), ("TCP", 8080), ("UDP", 53)]), max_size=2, unique=True))
    return document | {
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in backends],
        "ports": [{"protocol": protocol, "port": port} for protocol, port in ports],
    }
