"""What is refused, and how it is said. That admission is judged like the API server does it, tests/crds shows."""

from __future__ import annotations

import msgspec
import pytest

from .judge import errors, policy, report, reports, thing


def test_a_report_names_file_line_object_field_and_value() -> None:
    first, second = reports(policy("np", "{}") + "---\n" + policy("gnp", "{ingress: [{action: allow}], x: 1}"))
    assert first.valid
    assert msgspec.json.decode(msgspec.json.encode(second)) == {
        "file": "a.yaml",
        "line": 6,
        "kind": "GlobalNetworkPolicy",
        "namespace": "",
        "name": "a",
        "valid": False,
        "errors": [
            {"field": "spec.x", "value": "1", "message": "there is no such field"},
            {
                "field": "spec.ingress[0].action",
                "value": "allow",
                "message": "must be one of Allow, Deny, Log, Pass",
            },
        ],
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("just text", [("", "is no object with apiVersion and kind")]),
        ("- a", [("", "is no object with apiVersion and kind")]),
        ("a: 1", [("apiVersion", "is required"), ("kind", "is required")]),
        ("apiVersion: 1\nkind: Pod", [("apiVersion", "is required")]),
        ("apiVersion: projectcalico.org/v3\nkind: Policy", [("kind", "there is no such kind in projectcalico.org/v3")]),
        ("apiVersion: projectcalico.org/v4\nkind: Tier", [("apiVersion", "must be projectcalico.org/v3")]),
        ("apiVersion: tortie.io/v1alpha1\nkind: Peer", [("kind", "there is no such kind in tortie.io/v1alpha1")]),
    ],
)
def test_what_is_no_object_of_ours(text: str, found: list[tuple[str, str]]) -> None:
    assert errors(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: Pod",
        "apiVersion: apps/v1\nkind: Deployment\nspec: {replicas: many}",
        "apiVersion: other.io/v1\nkind: NetworkPolicy\nspec: [1]",
        "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Secret}]",
    ],
)
def test_kinds_that_are_none_of_ours_are_valid(text: str) -> None:
    found = report(text)
    assert (found.valid, found.errors, found.warnings) == (True, (), ())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            policy("np", "{selector: has(a}"),
            [("spec.selector", "character 6: expected ')', found the end")],
        ),
        (
            policy("gnp", "{namespaceSelector: a = b}"),
            [
                (
                    "spec.namespaceSelector",
                    "character 3: expected an operator after the label (to test for its presence write has(…)), "
                    "found '='",
                )
            ],
        ),
        (
            policy("np", "{ingress: [{action: Allow, protocol: TCP, destination: {ports: ['90:80']}}]}"),
            [("spec.ingress[0].destination.ports[0]", "the first port of the range is above the last")],
        ),
        (
            policy("np", "{ingress: [{action: Allow, destination: {ports: ['80']}}]}"),
            [("spec.ingress[0].destination.ports[0]", "a port number needs protocol TCP, UDP or SCTP")],
        ),
        (
            policy("sknp", "{ingress: [{ports: [{port: http, endPort: 90}]}]}"),
            [("spec.ingress[0].ports[0].endPort", "endPort 90 needs a port that is a number, and not above it: http")],
        ),
        (
            thing("NetworkSet", "{nets: [10.0.0.1/8]}") + "  ",
            [],
        ),
        (
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n"
            "metadata: {name: a, labels: {projectcalico.org/namespace: b}}\nspec: {}\n",
            [("metadata.labels", "is not for network sets")],
        ),
        (
            thing(
                "BGPConfiguration",
                "{communities: [{name: a, value: '1:2'}], prefixAdvertisements: "
                "[{cidr: 10.0.0.0/8, communities: [a, '1:2', '1:2:3', b]}]}",
                "default",
            ),
            [
                (
                    "spec.prefixAdvertisements[0].communities[3]",
                    "must be 65001:100, 65001:100:200 or a name among spec.communities",
                )
            ],
        ),
        (
            thing("BGPPeer", "{peerSelector: has(}"),
            [
                (
                    "spec.peerSelector",
                    "character 5: expected a label, has(…), all(), global(), '!' or '(', found the end",
                )
            ],
        ),
        (
            thing(
                "KubeControllersConfiguration",
                "{controllers: {node: {hostEndpoint: {templates: [{generateName: a, nodeSelector: x}]}}}}",
                "default",
            ),
            [
                (
                    "spec.controllers.node.hostEndpoint.templates[0].nodeSelector",
                    "character 2: expected an operator after the label (to test for its presence write has(…)), "
                    "found the end",
                )
            ],
        ),
    ],
)
def test_what_no_crd_can_say(text: str, found: list[tuple[str, str]]) -> None:
    assert errors(text) == found


def test_a_rule_that_admission_refuses_is_not_refused_again() -> None:
    text = policy(
        "np",
        "{selector: 'a b', ingress: [{action: Allow, protocol: ICMP, destination: {ports: [80]}}, "
        "{action: Allow, protocol: TCP, source: {ports: ['9:8']}}]}",
    )
    assert [field for field, _ in errors(text)] == [
        "spec.ingress[0].protocol",
        "spec.selector",
        "spec.ingress[1].source.ports[0]",
    ]


def test_nulls_mean_absence() -> None:
    assert report(policy("np", "{order: ~, selector: ~, ingress: [{action: Allow, protocol: ~, source: ~}]}")).valid
    assert report(policy("knp", "{podSelector: ~, ingress: [~]}")).valid


def test_a_status_is_not_judged_but_must_be_known() -> None:
    assert report(policy("gnp", "{}") + "status: {conditions: nonsense}").valid
    assert errors(policy("gnp", "{}") + "status: {phase: 1}") == [("status.phase", "there is no such field")]


def test_a_policy_test_is_held_to_its_form() -> None:
    head = "apiVersion: tortie.io/v1alpha1\nkind: PolicyTest\nmanifests: []\n"
    assert report(head + "expect: [{allow: {from: a/b, to: a/c}}]").valid
    assert errors(head + "expect: [{allow: {form: a/b, to: a/c}}]") == [
        ("", "Object contains unknown field `form` - at `$.expect[0].allow`")
    ]
    assert errors(head + "expect: [{}]") == [("", "needs either allow or deny - at `$.expect[0]`")]
