"""Calico's policies → the normal form, point by point."""

from __future__ import annotations

import hashlib

import pytest

from tortie.api.compiled import ICMP, CompiledRule, Peer, Traffic
from tortie.policy.convert import IGNORED, ignored

from .manifests import policy, problems, rule

NS = 'projectcalico.org/namespace == "shop"'
SOME_NS = "has(projectcalico.org/namespace)"


@pytest.mark.parametrize(
    ("kind", "spec", "selector"),
    [
        ("np", "", NS),
        ("np", "selector: app == 'x'", f'(app == "x" && {NS})'),
        ("np", "selector: a == 'x' || has(b)", f'((a == "x" || has(b)) && {NS})'),
        ("np", "selector: all()", f"(all() && {NS})"),
        ("np", "serviceAccountSelector: role == 'x'", f'({NS} && pcsa.role == "x")'),
        ("np", "serviceAccountSelector: all()", f"({NS} && all())"),
        ("gnp", "", "all()"),
        ("gnp", "selector: all()", "all()"),
        ("gnp", "namespaceSelector: all()", "has(projectcalico.org/namespace)"),
        (
            "gnp",
            "{selector: all(), namespaceSelector: env == 'x'}",
            '(has(projectcalico.org/namespace) && pcns.env == "x")',
        ),
        (
            "gnp",
            "{selector: '!all()', namespaceSelector: has(env)}",
            "(!has(projectcalico.org/namespace) && has(pcns.env))",
        ),
        ("gnp", "serviceAccountSelector: all()", "has(projectcalico.org/serviceaccount)"),
        (
            "gnp",
            "{selector: a == 'all()', serviceAccountSelector: has(r), namespaceSelector: all()}",
            '(a == "all()" && has(projectcalico.org/namespace) && has(pcsa.r))',
        ),
        ("gnp", "{selector: has(a) && has(b), serviceAccountSelector: has(a)}", "(has(a) && has(b) && has(pcsa.a))"),
    ],
)
def test_endpoint_selectors(kind: str, spec: str, selector: str) -> None:
    conversion = policy(kind, spec)
    assert conversion.errors == ()
    assert not conversion.provisional
    assert conversion.spec.selector == selector


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ("", ("Ingress",)),
        ("ingress: [{action: Allow}]", ("Ingress",)),
        ("egress: [{action: Allow}]", ("Egress",)),
        ("{ingress: [{action: Allow}], egress: [{action: Allow}]}", ("Ingress", "Egress")),
        ("{types: [Egress, Ingress]}", ("Ingress", "Egress")),
        ("{types: [Ingress], egress: [{action: Allow}]}", ("Ingress",)),
    ],
)
def test_types_are_defaulted_by_the_rules_that_there_are(spec: str, types: tuple[str, ...]) -> None:
    assert policy("np", spec).spec.types == types


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("np", "{action: Deny}", CompiledRule(action="Deny", id="")),
        (
            "np",
            "{action: Allow, protocol: TCP, destination: {ports: [81, 80, '90:95', 92, http, dns]}}",
            CompiledRule(
                action="Allow", id="", traffic=(Traffic(protocol=6, ports=("80:81", "90:95", "dns", "http")),)
            ),
        ),
        (
            "np",
            "{action: Allow, destination: {ports: [http]}}",
            CompiledRule(action="Allow", id="", traffic=(Traffic(ports=("http",)),)),
        ),
        ("np", "{action: Log, protocol: 47}", CompiledRule(action="Log", id="", traffic=(Traffic(protocol=47),))),
        (
            "np",
            "{action: Pass, notProtocol: UDPLite, ipVersion: 6}",
            CompiledRule(action="Pass", id="", not_protocol=136, ip_version=6),
        ),
        (
            "np",
            "{action: Allow, protocol: ICMP, icmp: {type: 8, code: 0}, notICMP: {type: 3}}",
            CompiledRule(
                action="Allow", id="", traffic=(Traffic(protocol=1),), icmp=ICMP(type=8, code=0), not_icmp=ICMP(type=3)
            ),
        ),
        (
            "np",
            "{action: Allow, protocol: 17, source: {ports: [9], notPorts: ['1:5']}, destination: {notPorts: [http]}}",
            CompiledRule(
                action="Allow",
                id="",
                traffic=(Traffic(protocol=17),),
                source_ports=("9",),
                not_source_ports=("1:5",),
                not_ports=("http",),
            ),
        ),
        (
            "np",
            "{action: Allow, source: {nets: [10.0.0.0/8, 1.0.0.0/8], notNets: [10.1.0.0/16]}}",
            CompiledRule(
                action="Allow", id="", sources=(Peer(nets=("1.0.0.0/8", "10.0.0.0/8"), not_nets=("10.1.0.0/16",)),)
            ),
        ),
        ("np", "{action: Allow, source: {selector: has(a)}}", Peer(selector=f"({NS} && has(a))")),
        ("gnp", "{action: Allow, source: {selector: has(a)}}", Peer(selector="has(a)")),
        ("gnp", "{action: Allow, source: {selector: all()}}", Peer(selector="all()")),
        ("np", "{action: Allow, source: {notSelector: has(a)}}", Peer(selector=NS, not_selector="has(a)")),
        ("gnp", "{action: Allow, source: {notSelector: has(a)}}", Peer(not_selector="has(a)")),
        (
            "np",
            "{action: Allow, source: {namespaceSelector: all()}}",
            Peer(selector="has(projectcalico.org/namespace)"),
        ),
        (
            "np",
            "{action: Allow, source: {namespaceSelector: ' global( ) '}}",
            Peer(selector="!has(projectcalico.org/namespace)"),
        ),
        (
            "np",
            "{action: Allow, source: {namespaceSelector: env == 'x' || !all(), selector: has(a) || has(b)}}",
            Peer(selector='((pcns.env == "x" || !has(projectcalico.org/namespace)) && (has(a) || has(b)))'),
        ),
        (
            "np",
            "{action: Allow, source: {serviceAccounts: {names: [z, a], selector: has(role)}, selector: has(a)}}",
            Peer(selector=f'({NS} && projectcalico.org/serviceaccount in {{"a", "z"}} && has(pcsa.role) && has(a))'),
        ),
        ("gnp", "{action: Allow, source: {serviceAccounts: {selector: all()}}}", Peer(selector="all()")),
        ("np", "{action: Allow, source: {services: {name: db}}}", Peer(service="shop/db")),
        ("gnp", "{action: Allow, source: {services: {name: db, namespace: x}}}", Peer(service="x/db")),
    ],
)
def test_rules(kind: str, text: str, expected: CompiledRule | Peer) -> None:
    if isinstance(expected, Peer):
        expected = CompiledRule(action="Allow", id="", sources=(expected,))
    assert rule(kind, text) == expected


def test_a_service_at_the_destination_is_for_egress() -> None:
    found = rule("np", "{action: Allow, protocol: TCP, destination: {services: {name: db}}}", "egress")
    assert found.destinations == (Peer(service="shop/db"),)
    wrong = policy("np", "ingress: [{action: Allow, destination: {services: {name: db}}}]")
    assert problems(wrong) == [("spec.ingress[0].destination.services", "db")]
    assert wrong.spec.ingress[0].void


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("{action: Allowed}", "action", "Allowed"),
        ("{action: Allow, protocol: tcp}", "protocol", "tcp"),
        ("{action: Allow, protocol: 0}", "protocol", "0"),
        ("{action: Allow, protocol: TCP, destination: {ports: [80, 'a b']}}", "destination.ports[1]", "a b"),
        ("{action: Allow, protocol: TCP, destination: {ports: ['70000']}}", "destination.ports[0]", "70000"),
        ("{action: Allow, protocol: TCP, source: {notPorts: ['9:3']}}", "source.notPorts[0]", "9:3"),
        ("{action: Allow, protocol: ICMP, source: {ports: [http]}}", "source.ports", "ICMP"),
        ("{action: Allow, destination: {notPorts: [80]}}", "destination.notPorts[0]", "80"),
        ("{action: Allow, source: {nets: [10.0.0.0/8, 10.0.0.1/8]}}", "source.nets[1]", "10.0.0.1/8"),
        ("{action: Allow, source: {nets: [10.0.0.1]}}", "source.nets[0]", "10.0.0.1"),
        ("{action: Allow, source: {nets: [10.0.0.0/255.0.0.0]}}", "source.nets[0]", "10.0.0.0/255.0.0.0"),
        ("{action: Allow, source: {nets: ['fe80::1%eth0/64']}}", "source.nets[0]", "fe80::1%eth0/64"),
        ("{action: Allow, destination: {notNets: ['::/0']}}", "destination.notNets[0]", "::/0"),
        ("{action: Allow, ipVersion: 6, destination: {nets: [10.0.0.0/8]}}", "destination.nets[0]", "10.0.0.0/8"),
        ("{action: Allow, ipVersion: 4, notProtocol: ICMPv6}", "notProtocol", "ICMPv6"),
        ("{action: Allow, protocol: ICMP, icmp: {type: 255}}", "icmp.type", "255"),
        ("{action: Allow, protocol: ICMP, notICMP: {code: 1}}", "notICMP.code", "1"),
        ("{action: Allow, protocol: TCP, icmp: {type: 8}}", "icmp", "TCP"),
        ("{action: Allow, source: {selector: has(}}", "source.selector", "has("),
        ("{action: Allow, source: {serviceAccounts: {selector: '='}}}", "source.serviceAccounts.selector", "="),
        ("{action: Allow, source: {services: {}}}", "source.services.name", ""),
        ("{action: Allow, source: {services: {name: a}, notNets: [1.0.0.0/8]}}", "source.notNets", '["1.0.0.0/8"]'),
    ],
)
def test_what_is_not_understood_is_named_by_field_and_value(text: str, field: str, value: str) -> None:
    conversion = policy("np", f"ingress: [{{action: Allow}}, {text}]")
    assert problems(conversion) == [(f"spec.ingress[1].{field}", value)]
    first, second = conversion.spec.ingress
    assert not first.void
    assert second.void or second.action == "Deny"
    assert not conversion.provisional


def test_services_of_global_policies_need_their_namespace() -> None:
    conversion = policy("gnp", "egress: [{action: Deny, destination: {services: {name: db}}}]")
    assert problems(conversion) == [("spec.egress[0].destination.services.namespace", "")]
    assert conversion.spec.egress[0].action == "Deny"
    assert conversion.spec.egress[0].destinations == ()


def test_ipv4_and_ipv6_nets_of_one_rule_are_refused() -> None:
    text = "ingress: [{action: Pass, source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}}]"
    conversion = policy("np", text)
    assert problems(conversion) == [("spec.ingress[0]", "IPv4 and IPv6")]
    assert conversion.spec.ingress[0].action == "Deny"


@pytest.mark.parametrize(("action", "void", "becomes"), [("Allow", True, "Allow"), ("Deny", False, "Deny")])
def test_http_counts_as_not_understood_and_is_ignored_not_wrong(action: str, void: bool, becomes: str) -> None:
    conversion = policy("gnp", f"ingress: [{{action: Log}}, {{action: {action}, http: {{methods: [GET]}}}}]")
    assert conversion.errors == ()
    (problem,) = conversion.ignored
    assert (problem.field, problem.value) == ("spec.ingress[1].http", '{"methods":["GET"]}')
    assert (conversion.spec.ingress[1].void, conversion.spec.ingress[1].action) == (void, becomes)


@pytest.mark.parametrize(
    ("kind", "spec", "field", "fallback"),
    [
        ("np", "selector: has(", "spec.selector", NS),
        ("np", "selector: global()", "spec.selector", NS),
        ("np", "serviceAccountSelector: x", "spec.serviceAccountSelector", NS),
        ("gnp", "selector: 'has(a) && a == 1'", "spec.selector", "!all()"),
        ("gnp", "namespaceSelector: '!global()'", "spec.namespaceSelector", "!all()"),
        ("gnp", "{preDNAT: true, doNotTrack: true, applyOnForward: true}", "spec.preDNAT", "!all()"),
        ("gnp", "{preDNAT: true, applyOnForward: true, egress: [{action: Allow}]}", "spec.preDNAT", "!all()"),
        ("gnp", "doNotTrack: true", "spec.doNotTrack", "!all()"),
    ],
)
def test_if_the_endpoints_are_not_understood_the_rest_is_kept(kind: str, spec: str, field: str, fallback: str) -> None:
    conversion = policy(kind, spec)
    assert [problem.field for problem in conversion.errors] == [field]
    assert conversion.provisional
    assert conversion.spec.selector == fallback


def test_where_a_global_policy_applies_is_kept() -> None:
    spec = policy("gnp", "{doNotTrack: true, applyOnForward: true, order: 3, tier: net, egress: [{action: Deny}]}").spec
    assert (spec.do_not_track, spec.apply_on_forward, spec.pre_dnat) == (True, True, False)
    assert (spec.tier, spec.order, spec.types, spec.staged) == ("net", 3, ("Egress",), "")


def test_staged_policies_are_compiled_and_marked() -> None:
    assert policy("snp", "ingress: [{action: Allow}]").spec.staged == "Set"
    learned = policy("sgnp", "{stagedAction: Learn, selector: has(a)}").spec
    assert (learned.staged, learned.selector, learned.source.kind) == ("Learn", "has(a)", "sgnp")
    gone = policy("snp", "{stagedAction: Delete, tier: net}")
    assert gone.errors == ()
    assert gone.spec.staged == "Delete"
    full = policy("snp", "{stagedAction: Delete, selector: has(a)}")
    assert problems(full) == [("spec.stagedAction", "Delete")]
    assert policy("sgnp", "{stagedAction: Perhaps}").spec.staged == "Ignore"


def test_equal_rules_have_different_ids_and_the_uid_counts() -> None:
    spec = "{ingress: [{action: Allow}, {action: Allow}], egress: [{action: Allow}]}"
    one = policy("np", spec, uid="1").spec
    two = policy("np", spec, uid="2").spec
    ids = [each.id for each in (*one.ingress, *one.egress, *two.ingress, *two.egress)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 16 and int(each, 16) for each in ids)
    assert policy("np", spec, uid="1").spec.ingress == one.ingress


def test_ids_are_what_the_design_says() -> None:
    """SHA-256 over uid, direction, canonical rule and occurrence: agents and flow logs refer to them for ever."""
    (found,) = policy("np", "ingress: [{action: Allow}]", uid="u").spec.ingress
    text = b'u\0Ingress\0{"action":"Allow","id":""}\x000'
    assert found.id == hashlib.sha256(text).hexdigest()[:16]


def test_ignored_fields_are_found_in_documents_of_any_kind() -> None:
    document = {"kind": "FelixConfiguration", "spec": {"windowsManageFirewallRules": "Enabled", "vxlanVNI": 5}}
    assert [problem.field for problem in ignored(document)] == ["spec.windowsManageFirewallRules"]
    assert ignored({"kind": "FelixConfiguration", "spec": {"xdpEnabled": None}}) == ()
    assert ignored({"kind": "Unheard"}) == ()
    assert all(why and not why.endswith(".") for table in IGNORED.values() for why in table.values())
