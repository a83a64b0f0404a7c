"""Warnings: for what is surely not meant, and not for what people do on purpose."""

from __future__ import annotations

import pytest

from .judge import policy, said, thing, warnings

DENY_EGRESS = policy("knp", "{podSelector: {}, policyTypes: [Egress]}")
DNS = "{egress: [{ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]}], policyTypes: [Egress]}"
HOSTS = "host endpoints are not programmed yet: there the policy is not enforced"


def test_what_people_do_on_purpose_is_not_warned_of() -> None:
    for text in (
        policy("knp", "{podSelector: {}, policyTypes: [Ingress]}"),
        policy("knp", "{podSelector: {}, ingress: [{}]}"),
        policy("np", "{ingress: [{action: Allow}]}"),
        policy("np", "{ingress: [{action: Log}, {action: Deny}]}"),
        policy("np", "{ingress: [{action: Allow, protocol: TCP, source: {selector: has(a)}}]}"),
        policy("np", "{ingress: [{action: Allow, protocol: ICMP}]}"),
        policy("np", "{ingress: [{action: Allow, protocol: 6, source: {ports: [179]}, destination: {ports: [1]}}]}"),
        policy("gnp", "{namespaceSelector: all(), types: [Ingress]}"),
        policy("gnp", "{selector: app == 'a', types: [Ingress]}"),
        policy("gnp", "{tier: security, types: [Ingress, Egress]}"),
        thing("FelixConfiguration", "{nodeSelector: has(rack)}", "racks"),
        thing("FelixConfiguration", "{}", "node.a"),
    ):
        assert warnings(text) == [], text


@pytest.mark.parametrize("rules", ["[{action: Log}]", "[{action: Log, protocol: TCP}, {action: Log}]"])
def test_a_policy_that_only_logs(rules: str) -> None:
    found = warnings(policy("np", f"{{ingress: {rules}}}"))
    (message,) = said(found, "spec.ingress")
    assert message.startswith("only logs, and what no rule allows is denied")


@pytest.mark.parametrize(
    "text",
    [
        DENY_EGRESS,
        policy("np", "{types: [Egress]}"),
        policy("gnp", "{namespaceSelector: all(), egress: [{action: Deny}]}"),
        policy(
            "gnp", "{namespaceSelector: all(), egress: [{action: Allow, protocol: TCP, destination: {ports: [53]}}]}"
        ),
        policy("np", "{egress: [{action: Deny, protocol: UDP, destination: {ports: ['1:100']}}, {action: Allow}]}"),
        policy("np", "{egress: [{action: Log}, {action: Allow, notProtocol: UDP}]}"),
    ],
)
def test_dns_that_nothing_allows(text: str) -> None:
    (message,) = said(warnings(text), "spec.egress")
    assert message.startswith("denies DNS, and no other policy here allows it")


@pytest.mark.parametrize(
    "others",
    [
        [policy("knp", DNS).replace("name: a", "name: dns")],
        [policy("gnp", "{egress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}], selector: has(a)}")],
        [policy("gnp", "{tier: first, egress: [{action: Pass}], selector: has(a)}")],
    ],
)
def test_dns_that_another_policy_allows(others: list[str]) -> None:
    assert warnings(DENY_EGRESS, *others) == []


def test_dns_that_is_allowed_elsewhere_does_not_count() -> None:
    other = policy("knp", DNS).replace("namespace: shop", "namespace: office")
    staged = policy("sknp", "{egress: [{ports: [{protocol: UDP, port: 53}]}]}")
    assert len(warnings(DENY_EGRESS, other, staged)) == 1


@pytest.mark.parametrize("destination", ["{nets: [10.96.0.10/32]}", "{selector: has(dns)}", "{ports: [53]}", "{}"])
def test_dns_that_the_policy_allows_itself(destination: str) -> None:
    rule = f"{{action: Allow, protocol: UDP, destination: {destination}}}"
    found = warnings(policy("np", f"{{egress: [{rule}]}}"))
    assert "spec.egress" not in dict(found)


def test_ports_that_are_missing() -> None:
    rules = "[{action: Allow, protocol: TCP}, {action: Allow, protocol: UDP, source: {}}]"
    found = warnings(policy("np", f"{{ingress: {rules}}}"))
    assert found == [
        (f"spec.ingress[{index}]", f"allows every {name} port, from and to everywhere: are ports missing?")
        for index, name in enumerate(["TCP", "UDP"])
    ]
    assert said(warnings(policy("knp", "{ingress: [{ports: [{protocol: TCP}]}]}")), "spec.ingress[0]")
    assert warnings(policy("knp", "{ingress: [{ports: [], from: []}]}")) == [
        ("spec.ingress[0].from", "an empty list means everybody"),
        ("spec.ingress[0].ports", "an empty list means every port"),
    ]


def test_ports_of_the_source_instead_of_the_destination() -> None:
    found = warnings(policy("np", "{ingress: [{action: Allow, protocol: TCP, source: {ports: [80]}}]}"))
    assert found == [
        (
            "spec.ingress[0].source.ports",
            "are ports that clients send from, which are arbitrary: is destination.ports meant?",
        )
    ]


def test_rules_that_have_no_effect() -> None:
    found = warnings(policy("np", "{types: [Ingress], egress: [{action: Deny}]}"))
    assert found == [("spec.egress", "have no effect: the policy is not of type Egress")]
    found = warnings(policy("knp", "{policyTypes: [Ingress], egress: [{}]}"))
    assert found == [("spec.egress", "have no effect: the policy is not of type Egress")]
    found = warnings(policy("np", "{ingress: [{action: Deny}, {action: Allow, source: {selector: has(a)}}]}"))
    assert found == [("spec.ingress[0]", "matches everything: the rules after it are never reached")]


def test_a_global_policy_that_cuts_hosts_off_too() -> None:
    found = said(warnings(policy("gnp", "{types: [Ingress]}")), "spec.selector")
    assert found[0].startswith("also applies to host endpoints, once there are any, and denies the kubelet's port")
    allowed = "{ingress: [{action: Allow, protocol: TCP, destination: {ports: [10250]}}]}"
    assert warnings(policy("gnp", allowed)) == []


@pytest.mark.parametrize("fields", ["applyOnForward: true", "applyOnForward: true, preDNAT: true"])
def test_policies_for_host_endpoints(fields: str) -> None:
    found = warnings(policy("gnp", f"{{selector: has(host), {fields}, types: [Ingress]}}"))
    assert said(found, "spec.applyOnForward") == [HOSTS]
    assert said(found, "spec.preDNAT") == [HOSTS] * ("preDNAT" in fields)


def test_pools_that_overlap() -> None:
    pools = [thing("IPPool", f"{{cidr: {cidr}}}", name) for name, cidr in (("a", "10.0.0.0/16"), ("b", "10.0.4.0/22"))]
    assert warnings(*pools) == [
        ("spec.cidr", "overlaps with the pool b, 10.0.4.0/22: only the older one is used"),
    ]
    assert warnings(pools[0], thing("IPPool", "{cidr: 10.1.0.0/16}", "c")) == []


def test_fields_without_effect() -> None:
    assert warnings(thing("FelixConfiguration", "{goGCThreshold: 30}", "default")) == [
        ("spec.goGCThreshold", "tunes Go's runtime")
    ]
    assert warnings(policy("gnp", "{selector: has(a)}").replace("name: a", "name: a, namespace: b")) == [
        ("metadata.namespace", "has no effect: the kind has none")
    ]
    assert warnings(thing("FelixConfiguration", "{mtuIfacePattern: eth}", "racks")) == [
        ("spec.nodeSelector", "is needed: without, only default and node.<name> apply to a node")
    ]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\nmetadata: {name: a}", "apiVersion"),
        ("apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}", "kind"),
        ("apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: a}", "kind"),
        (thing("HostEndpoint", "{node: a, interfaceName: eth0}"), "kind"),
    ],
)
def test_kinds_without_effect(text: str, field: str) -> None:
    assert [each for each, _ in warnings(text)] == [field]
