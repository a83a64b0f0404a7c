"""Kubernetes' two kinds of policy → the normal form."""

from __future__ import annotations

import pytest

from tortie.api.compiled import Peer, Traffic

from .manifests import policy, problems

NS = 'projectcalico.org/namespace == "shop"'
K8S = 'projectcalico.org/orchestrator == "k8s"'


def test_a_network_policy_is_in_the_default_tier_at_order_1000() -> None:
    spec = policy("knp", "podSelector: {matchLabels: {b: x, a: y}}").spec
    assert (spec.tier, spec.order, spec.types) == ("default", 1000, ("Ingress",))
    assert spec.selector == f'({NS} && {K8S} && a == "y" && b == "x")'
    assert spec.source.kind == "knp"


def test_label_selectors_have_kubernetes_meaning() -> None:
    expressions = """
    podSelector:
      matchExpressions:
      - {key: a, operator: In, values: [y, x]}
      - {key: b, operator: NotIn, values: [x]}
      - {key: c, operator: Exists}
      - {key: d, operator: DoesNotExist}
    """
    assert policy("knp", expressions).spec.selector == (
        f'({NS} && {K8S} && a in {{"x", "y"}} && b not in {{"x"}} && has(c) && !has(d))'
    )


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("podSelector: {}", Peer(selector=f"({NS} && {K8S})")),
        ("podSelector: {matchLabels: {a: x}}", Peer(selector=f'({NS} && {K8S} && a == "x")')),
        ("namespaceSelector: {}", Peer(selector=f"(has(projectcalico.org/namespace) && {K8S})")),
        ("namespaceSelector: {matchLabels: {env: x}}", Peer(selector=f'(pcns.env == "x" && {K8S})')),
        (
            "podSelector: {matchLabels: {a: x}}, namespaceSelector: {matchLabels: {env: x}}",
            Peer(selector=f'(pcns.env == "x" && {K8S} && a == "x")'),
        ),
        (
            "ipBlock: {cidr: 10.1.2.3/8, except: [10.2.0.0/16, 10.1.0.9/16]}",
            Peer(nets=("10.0.0.0/8",), not_nets=("10.1.0.0/16", "10.2.0.0/16")),
        ),
    ],
)
def test_peers(peer: str, expected: Peer) -> None:
    conversion = policy("knp", f"ingress: [{{from: [{{{peer}}}]}}]")
    assert conversion.errors == ()
    assert conversion.spec.ingress[0].sources == (expected,)
    other = policy("knp", f"{{egress: [{{to: [{{{peer}}}]}}], policyTypes: [Egress]}}")
    assert other.spec.egress[0].destinations == (expected,)
    assert other.spec.types == ("Egress",)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ("", ()),
        ("{}", (Traffic(protocol=6),)),
        ("{port: 80}, {port: 82}, {port: 81}", (Traffic(protocol=6, ports=("80:82",)),)),
        ("{port: 80, endPort: 90}, {port: http}", (Traffic(protocol=6, ports=("80:90", "http")),)),
        ("{port: 80}, {protocol: TCP}", (Traffic(protocol=6),)),
        (
            "{protocol: UDP, port: 53}, {protocol: SCTP}, {port: 53}",
            (Traffic(protocol=6, ports=("53",)), Traffic(protocol=17, ports=("53",)), Traffic(protocol=132)),
        ),
    ],
)
def test_ports_stay_one_rule(ports: str, expected: tuple[Traffic, ...]) -> None:
    conversion = policy(
        "knp", f"ingress: [{{ports: [{ports}], from: [{{podSelector: {{}}}}, {{namespaceSelector: {{}}}}]}}]"
    )
    assert conversion.errors == ()
    (rule,) = conversion.spec.ingress
    assert rule.traffic == expected
    assert len(rule.sources) == 2


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("{from: [{}]}", "from[0]"),
        ("{from: [{ipBlock: {cidr: 10.0.0.1}}]}", "from[0].ipBlock.cidr"),
        ("{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [x]}}]}", "from[0].ipBlock.except[0]"),
        ("{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}", "from[0].ipBlock"),
        (
            "{from: [{podSelector: {matchExpressions: [{key: a, operator: Like}]}}]}",
            "from[0].podSelector.matchExpressions[0].operator",
        ),
        ("{ports: [{protocol: ICMP}]}", "ports[0].protocol"),
        ("{ports: [{port: 0}]}", "ports[0]"),
        ("{ports: [{port: '80:90'}]}", "ports[0]"),
        ("{ports: [{port: 90, endPort: 80}]}", "ports[0].endPort"),
        ("{ports: [{port: http, endPort: 80}]}", "ports[0].endPort"),
        ("{ports: [{endPort: 80}]}", "ports[0].endPort"),
    ],
)
def test_a_rule_that_is_not_understood_allows_nothing(rule: str, field: str) -> None:
    conversion = policy("knp", f"ingress: [{{}}, {rule}]")
    assert [problem.field for problem in conversion.errors] == [f"spec.ingress[1].{field}"]
    first, second = conversion.spec.ingress
    assert (first.void, second.void) == (False, True)
    assert not conversion.provisional


def test_a_pod_selector_that_is_not_understood_selects_the_namespace() -> None:
    conversion = policy("knp", "{podSelector: {matchExpressions: [{key: a, operator: In}]}, ingress: [{}]}")
    assert problems(conversion) == [("spec.podSelector.matchExpressions[0].values", "[]")]
    assert conversion.provisional
    assert conversion.spec.selector == NS
    assert not conversion.spec.ingress[0].void


def test_types_are_defaulted_as_the_api_server_does() -> None:
    assert policy("knp", "egress: [{}]").spec.types == ("Ingress", "Egress")
    assert policy("sknp", "egress: [{}]").spec.types == ("Ingress", "Egress")
    assert policy("sknp", "ingress: [{}]").spec.staged == "Set"


def cluster_policy(rule: str, direction: str = "ingress", subject: str = "namespaces: {}"):  # type: ignore[no-untyped-def]
    return policy("cnp", f"{{tier: Admin, priority: 7, subject: {{{subject}}}, {direction}: [{rule}]}}")


def test_a_cluster_policy_is_in_its_tier_at_its_priority() -> None:
    spec = cluster_policy("{action: Deny, from: [{namespaces: {}}]}").spec
    assert (spec.tier, spec.order, spec.types) == ("kube-admin", 7, ("Ingress",))
    assert spec.selector == f"(has(projectcalico.org/namespace) && {K8S})"
    baseline = policy(
        "cnp", "{tier: Baseline, priority: 0, subject: {pods: {podSelector: {matchLabels: {a: x}}}}}"
    ).spec
    assert (baseline.tier, baseline.types) == ("kube-baseline", ())
    assert baseline.selector == f'(has(projectcalico.org/namespace) && {K8S} && a == "x")'


def test_cluster_rules_keep_peers_and_protocols_side_by_side() -> None:
    found = cluster_policy(
        """{action: Accept, name: x, from: [{namespaces: {matchLabels: {env: x}}}, {pods: {podSelector: {}}}],
            protocols: [{udp: {}}, {tcp: {destinationPort: {number: 80}}},
                        {tcp: {destinationPort: {range: {start: 81, end: 90}}}}, {destinationNamedPort: http}]}"""
    )
    assert found.errors == ()
    (rule,) = found.spec.ingress
    assert rule.action == "Allow"
    assert rule.sources == (
        Peer(selector=f'(pcns.env == "x" && {K8S})'),
        Peer(selector=f"(has(projectcalico.org/namespace) && {K8S})"),
    )
    assert rule.traffic == (
        Traffic(ports=("http",)),
        Traffic(protocol=6, ports=("80:90",)),
        Traffic(protocol=17),
    )


def test_networks_are_for_egress() -> None:
    found = cluster_policy("{action: Pass, to: [{networks: [10.0.0.0/8, 'fd00::/8']}]}", "egress")
    assert found.errors == ()
    assert found.spec.egress[0].destinations == (Peer(nets=("10.0.0.0/8", "fd00::/8")),)
    wrong = cluster_policy("{action: Pass, from: [{networks: [10.0.0.0/8]}]}")
    assert problems(wrong) == [("spec.ingress[0].from[0].networks", '["10.0.0.0/8"]')]


@pytest.mark.parametrize(
    ("action", "becomes", "void"), [("Accept", "Allow", True), ("Deny", "Deny", False), ("Pass", "Deny", False)]
)
@pytest.mark.parametrize(
    ("rest", "field"),
    [
        ("to: [{nodes: {}}]", "to[0].nodes"),
        ("to: [{domainNames: [a.example]}]", "to[0].domainNames"),
        ("to: [{}]", "to[0]"),
        ("to: []", "to"),
        ("to: [{namespaces: {}, pods: {podSelector: {}}}]", "to[0]"),
        ("to: [{namespaces: {}}], protocols: [{}]", "protocols[0]"),
        ("to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {}}}]", "protocols[0].tcp.destinationPort"),
        ("to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: http}]", "protocols"),
    ],
)
def test_a_cluster_rule_that_is_not_understood_fails_closed(
    action: str, becomes: str, void: bool, rest: str, field: str
) -> None:
    found = cluster_policy(f"{{action: {action}, {rest}}}", "egress")
    assert [problem.field for problem in found.errors] == [f"spec.egress[0].{field}"]
    (rule,) = found.spec.egress
    assert (rule.action, rule.void, rule.destinations, rule.traffic) == (becomes, void, (), ())


@pytest.mark.parametrize("head", ["tier: Middle, subject: {namespaces: {}}", "tier: Admin, subject: {}"])
def test_a_cluster_policy_of_no_tier_or_subject_selects_nothing(head: str) -> None:
    found = policy("cnp", f"{{{head}, priority: 1, ingress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]}}")
    assert found.provisional
    assert found.spec.selector == "!all()"
