"""Host endpoints: where their policies apply, and what is open whatever they say."""

from __future__ import annotations

import pytest

from .manifests import BASE, ask, cluster, steps, verdict


def endpoint(node: str, interface: str = "eth0", extra: str = "", name: str = "") -> str:
    address = {"n1": "192.0.2.1", "n2": "192.0.2.2"}[node]
    return f"""---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{name: {name or node}, labels: {{host: {node}}}}}
spec: {{node: {node}, interfaceName: '{interface}', expectedIPs: [{address}]{extra}}}
"""


def policy(name: str, spec: str) -> str:
    return f"""---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: {name}}}
spec: {{selector: has(host), {spec}}}
"""


def felix(spec: str) -> str:
    return f"""---
{{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {{name: default}}, spec: {{{spec}}}}}
"""


OUT = "ip:203.0.113.1"


def test_a_host_without_endpoint_is_open_and_with_one_closed() -> None:
    assert verdict(cluster(BASE), OUT, "host:n2", port=80) == ("allow", "allow")
    closed = cluster(BASE + endpoint("n2"))
    assert verdict(closed, OUT, "host:n2", port=80) == ("allow", "deny")
    assert steps(closed, OUT, "host:n2", port=80) == ["Profile no-profile-match Deny"]
    assert verdict(closed, "host:n2", OUT, port=80) == ("deny", "allow")
    open_again = cluster(BASE + endpoint("n2", extra=", profiles: [projectcalico-default-allow]"))
    assert steps(open_again, OUT, "host:n2", port=80) == ["Profile projectcalico-default-allow 0 Allow"]


@pytest.mark.parametrize(("port", "protocol"), [(22, "TCP"), (68, "UDP"), (6443, "TCP"), (5473, "TCP")])
def test_failsafe_ports_are_open_inwards(port: int, protocol: str) -> None:
    deny = policy("deny", "doNotTrack: true, applyOnForward: true, ingress: [{action: Deny}]")
    found = cluster(BASE + endpoint("n2") + deny)
    assert steps(found, OUT, "host:n2", port=port, protocol=protocol) == ["HostEndpoint n2 failsafe Allow"]
    other = "UDP" if protocol == "TCP" else "TCP"
    assert verdict(found, OUT, "host:n2", port=port, protocol=other) == ("allow", "deny")


def test_failsafe_ports_outwards_and_configured() -> None:
    found = cluster(BASE + endpoint("n2"))
    assert steps(found, "host:n2", OUT, "egress", port=53, protocol="UDP") == ["HostEndpoint n2 failsafe Allow"]
    assert verdict(found, "host:n2", OUT, port=22)[0] == "deny"
    none = cluster(BASE + endpoint("n2") + felix("failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []"))
    assert verdict(none, OUT, "host:n2", port=22)[1] == "deny"
    assert verdict(none, "host:n2", OUT, port=53, protocol="UDP")[0] == "deny"
    some = "failsafeInboundHostPorts: [{protocol: tcp, port: 99, net: 203.0.113.0/28}]"
    narrow = cluster(BASE + endpoint("n2") + felix(some))
    assert verdict(narrow, OUT, "host:n2", port=99)[1] == "allow"
    assert verdict(narrow, "ip:203.0.113.99", "host:n2", port=99)[1] == "deny"
    assert verdict(narrow, OUT, "host:n2", port=22)[1] == "deny"


def test_failsafe_ports_do_not_open_pods() -> None:
    deny = policy("deny", "applyOnForward: true, ingress: [{action: Deny}]")
    found = cluster(BASE + endpoint("n2") + deny)
    assert steps(found, OUT, "pod:shop/db", port=22) == ["default GlobalNetworkPolicy deny 0 Deny"]


def test_only_policies_that_apply_on_forward_police_what_is_forwarded() -> None:
    normal = cluster(BASE + endpoint("n2") + policy("p", "ingress: [{action: Deny}], egress: [{action: Deny}]"))
    assert verdict(normal, OUT, "host:n2", port=80)[1] == "deny"
    assert verdict(normal, OUT, "pod:shop/db", port=80) == ("allow", "allow")
    assert verdict(normal, "pod:shop/db", OUT, port=80) == ("allow", "allow")
    spec = "applyOnForward: true, ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]"
    forward = cluster(BASE + endpoint("n2") + policy("p", spec))
    assert steps(forward, OUT, "pod:shop/db", port=80) == [
        "default GlobalNetworkPolicy p 0 Allow",
        "Profile kns.shop 0 Allow",
    ]
    assert steps(forward, OUT, "pod:shop/db", port=81) == ["default GlobalNetworkPolicy p end-of-tier Deny"]
    assert verdict(forward, OUT, "host:n2", port=80)[1] == "allow"
    assert verdict(forward, "pod:shop/db", OUT, port=81) == ("allow", "allow")


def test_traffic_between_nodes_meets_the_endpoints_of_both() -> None:
    spec = "applyOnForward: true, types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Allow}]"
    found = cluster(BASE + endpoint("n1") + endpoint("n2") + policy("p", spec))
    assert steps(found, "pod:shop/web", "pod:shop/db", "egress", port=1) == [
        "Profile kns.shop 0 Allow",
        "default GlobalNetworkPolicy p 0 Allow",
    ]
    assert steps(found, "pod:shop/web", "pod:shop/db", port=1) == [
        "default GlobalNetworkPolicy p 0 Allow",
        "Profile kns.shop 0 Allow",
    ]
    assert steps(found, "pod:shop/web", "pod:lab/probe", "egress", port=1) == ["Profile kns.shop 0 Allow"]
    assert steps(found, "host:n1", "host:n2", "egress", port=1) == ["default GlobalNetworkPolicy p 0 Allow"]


def test_untracked_policy_decides_first_and_has_no_end_of_tier() -> None:
    raw = """doNotTrack: true, applyOnForward: true, ingress: [
             {action: Allow, protocol: UDP, destination: {ports: [53]}},
             {action: Deny, protocol: UDP, destination: {ports: [54]}}]"""
    normal = "ingress: [{action: Allow, protocol: UDP}]"
    found = cluster(BASE + endpoint("n2") + policy("raw", raw) + policy("p", normal))
    assert steps(found, OUT, "host:n2", port=53, protocol="UDP") == ["default GlobalNetworkPolicy raw 0 Allow"]
    assert steps(found, OUT, "host:n2", port=54, protocol="UDP") == ["default GlobalNetworkPolicy raw 1 Deny"]
    assert steps(found, OUT, "host:n2", port=55, protocol="UDP") == ["default GlobalNetworkPolicy p 0 Allow"]
    assert steps(found, OUT, "host:n2", port=53) == ["default GlobalNetworkPolicy p end-of-tier Deny"]


def test_policy_before_dnat_sees_the_destination_as_it_was() -> None:
    spec = """preDNAT: true, applyOnForward: true, ingress: [
              {action: Deny, source: {nets: [203.0.113.0/24]}, protocol: TCP, destination: {ports: [30080]}}]"""
    found = cluster(BASE + endpoint("n2") + policy("front", spec))
    fields = {"port": 30080, "dnat": "10.0.0.2:8080"}
    assert steps(found, OUT, "host:n2", **fields) == ["default GlobalNetworkPolicy front 0 Deny"]
    assert steps(found, "ip:198.51.100.1", "host:n2", **fields) == ["Profile kns.shop 0 Allow"]
    assert verdict(found, OUT, "pod:shop/db", port=8080) == ("allow", "allow")
    # through another node: there it is translated, and here seen as it is then
    assert verdict(found, OUT, "host:n1", **fields) == ("allow", "allow")
    both = cluster(BASE + endpoint("n1", name="first") + endpoint("n2") + policy("front", spec))
    assert steps(both, OUT, "host:n1", **fields) == ["default GlobalNetworkPolicy front 0 Deny"]


@pytest.mark.parametrize(
    ("action", "expected", "trace"),
    [
        ("Drop", ("deny", "allow"), "Node n1 endpoint-to-host Deny"),
        ("Accept", ("allow", "allow"), "Node n1 endpoint-to-host Allow"),
        ("Return", ("allow", "deny"), "Node n1 endpoint-to-host Allow"),
    ],
)
def test_a_pod_and_its_own_host(action: str, expected: tuple[str, str], trace: str) -> None:
    every = endpoint("n1", "*") + policy("p", "ingress: [{action: Allow, protocol: UDP}]")
    found = cluster(BASE + every + felix(f"defaultEndpointToHostAction: {action}"))
    assert verdict(found, "pod:shop/web", "host:n1", port=80) == expected
    assert steps(found, "pod:shop/web", "host:n1", "egress", port=80) == ["Profile kns.shop 0 Allow", trace]
    assert verdict(found, "pod:shop/web", "host:n2", port=80) == ("allow", "allow")


def test_the_egress_policy_of_a_pod_comes_before_its_hosts_action() -> None:
    closed = """---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: shop},
 spec: {podSelector: {}, policyTypes: [Egress]}}
"""
    found = cluster(BASE + closed + felix("defaultEndpointToHostAction: Accept"))
    assert verdict(found, "pod:shop/web", "host:n1", port=80) == ("deny", "allow")


def test_the_endpoint_of_every_interface_is_met_at_pods_too() -> None:
    spec = "applyOnForward: true, types: [Ingress, Egress], ingress: [{action: Allow}], egress: [{action: Log}]"
    found = cluster(BASE + endpoint("n1", "*") + policy("p", spec))
    assert steps(found, "pod:shop/web", "pod:lab/probe", "egress", port=1) == [
        "default GlobalNetworkPolicy p 0 Allow",
        "Profile kns.shop 0 Allow",
    ]
    assert steps(found, "pod:shop/web", "pod:lab/probe", port=1) == [
        "default GlobalNetworkPolicy p 0 Log",
        "default GlobalNetworkPolicy p end-of-tier Deny",
    ]
    assert steps(found, "host:n1", "pod:lab/probe", port=1) == []
    assert steps(found, "pod:shop/web", OUT, "egress", port=1)[-1] == "default GlobalNetworkPolicy p end-of-tier Deny"


def test_a_named_interface_has_its_own_endpoint_and_the_others_the_common_one() -> None:
    texts = BASE + endpoint("n2", "*", name="every") + endpoint("n2", "eth0", name="named")
    allow = policy("p", "ingress: [{action: Allow}]").replace("has(host)", "projectcalico.org/x != 'y'")
    assert verdict(cluster(texts), OUT, "host:n2", port=80)[1] == "deny"
    assert verdict(cluster(texts + allow), OUT, "host:n2", port=80)[1] == "allow"
    silent = texts.replace("interfaceName: 'eth0', expectedIPs: [192.0.2.2]", "interfaceName: 'eth0'")
    found = cluster(silent + policy("q", "ingress: [{action: Allow}]"))
    assert steps(found, OUT, "host:n2", port=80) == ["default GlobalNetworkPolicy q 0 Allow"]
    elsewhere = texts.replace(
        "interfaceName: 'eth0', expectedIPs: [192.0.2.2]", "interfaceName: 'eth1', expectedIPs: [9.9.9.9]"
    )
    profiled = elsewhere.replace("interfaceName: '*',", "interfaceName: '*', profiles: [projectcalico-default-allow],")
    assert steps(cluster(profiled), OUT, "host:n2", port=80) == ["Profile projectcalico-default-allow 0 Allow"]
    assert verdict(cluster(profiled), OUT, "ip:9.9.9.9", port=80)[1] == "deny"


def test_rules_select_host_endpoints_by_their_addresses_and_ports() -> None:
    destination = "{selector: has(host), namespaceSelector: global(), ports: [ssh-alt]}"
    text = f"""---
{{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {{name: p, namespace: shop}},
 spec: {{types: [Egress], egress: [{{action: Allow, protocol: TCP, destination: {destination}}}]}}}}
"""
    ports = ", profiles: [projectcalico-default-allow], ports: [{name: ssh-alt, protocol: TCP, port: 2222}]"
    found = cluster(BASE + endpoint("n2", extra=ports) + text)
    assert verdict(found, "pod:shop/web", "host:n2", port=2222) == ("allow", "allow")
    assert verdict(found, "pod:shop/web", "host:n2", port=2223) == ("deny", "allow")


def test_one_side_alone_can_be_asked_for() -> None:
    found = cluster(BASE + endpoint("n2"))
    one = ask(found, OUT, "host:n2", port=80, direction="egress")
    assert (one.verdict, one.ingress) == ("allow", None)
    other = ask(found, OUT, "host:n2", port=80, direction="ingress", id="7")
    assert (other.id, other.verdict, other.egress) == ("7", "deny", None)
