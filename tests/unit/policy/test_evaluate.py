"""The evaluator on situations that people have, with the reasons it gives."""

from __future__ import annotations

import pytest

from tortie.policy.flows import FlowError

from .manifests import BASE, cluster, steps, verdict

DENY_DB = """---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}}
"""


def test_without_policy_pods_may_all_and_the_profile_says_so() -> None:
    base = cluster(BASE)
    assert verdict(base, "pod:lab/probe", "pod:shop/db", port=5432) == ("allow", "allow")
    assert steps(base, "pod:lab/probe", "pod:shop/db", port=5432) == ["Profile kns.shop 0 Allow"]
    assert steps(base, "pod:lab/probe", "pod:shop/db", "egress", port=5432) == ["Profile kns.lab 0 Allow"]


def test_a_selected_pod_is_closed_in_that_direction_only() -> None:
    closed = cluster(BASE + DENY_DB)
    assert verdict(closed, "pod:shop/web", "pod:shop/db", port=5432) == ("allow", "deny")
    assert verdict(closed, "pod:shop/db", "pod:shop/web", port=80) == ("allow", "allow")
    assert steps(closed, "pod:shop/web", "pod:shop/db", port=5432) == [
        "default KubernetesNetworkPolicy shop/db end-of-tier Deny"
    ]


def test_a_pod_reaches_itself_whatever_policy_says() -> None:
    closed = cluster(BASE + DENY_DB)
    assert verdict(closed, "pod:shop/db", "pod:shop/db", port=1) == ("allow", "allow")
    assert verdict(closed, "pod:shop/db", "ip:10.0.0.2", port=1) == ("allow", "allow")


def test_a_host_reaches_its_own_pods_but_not_those_of_others() -> None:
    closed = cluster(BASE + DENY_DB)
    assert verdict(closed, "host:n2", "pod:shop/db", port=1) == ("allow", "allow")
    assert verdict(closed, "host:n1", "pod:shop/db", port=1) == ("allow", "deny")
    assert verdict(closed, "pod:lab/proxy", "pod:shop/db", port=1) == ("allow", "allow")


TIERS = """---
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: early}, spec: {order: 10, defaultAction: Pass}}
---
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: late}, spec: {defaultAction: Deny}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: watch}
spec:
  tier: early
  selector: app == 'db'
  ingress:
  - {action: Log, protocol: TCP}
  - {action: Pass, protocol: TCP, destination: {ports: [1]}}
  - {action: Deny, protocol: TCP, destination: {ports: [1, 2]}}
  - {action: Allow, protocol: TCP, destination: {ports: [3]}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: a, namespace: shop}
spec: {order: 1, selector: app == 'db', ingress: [{action: Allow, protocol: TCP, destination: {ports: [1]}}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: b, namespace: shop}
spec: {order: 1, selector: app == 'db', ingress: [{action: Deny, protocol: TCP, destination: {ports: [1]}},
                                                  {action: Pass, protocol: TCP, destination: {ports: [4, 5]}}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: end}
spec: {tier: late, selector: app == 'db', ingress: [{action: Allow, protocol: TCP, destination: {ports: [4]}}]}
"""

LOGGED = "early GlobalNetworkPolicy watch 0 Log"


@pytest.mark.parametrize(
    ("port", "trace"),
    [
        (1, [LOGGED, "early GlobalNetworkPolicy watch 1 Pass", "default NetworkPolicy shop/a 0 Allow"]),
        (2, [LOGGED, "early GlobalNetworkPolicy watch 2 Deny"]),
        (3, [LOGGED, "early GlobalNetworkPolicy watch 3 Allow"]),
        (
            4,
            [
                LOGGED,
                "early GlobalNetworkPolicy watch end-of-tier Pass",
                "default NetworkPolicy shop/b 1 Pass",
                "late GlobalNetworkPolicy end 0 Allow",
            ],
        ),
        (
            5,
            [
                LOGGED,
                "early GlobalNetworkPolicy watch end-of-tier Pass",
                "default NetworkPolicy shop/b 1 Pass",
                "late GlobalNetworkPolicy end end-of-tier Deny",
            ],
        ),
        (
            6,
            [
                LOGGED,
                "early GlobalNetworkPolicy watch end-of-tier Pass",
                "default NetworkPolicy shop/b end-of-tier Deny",
            ],
        ),
    ],
)
def test_tiers_pass_log_and_ends(port: int, trace: list[str]) -> None:
    assert steps(cluster(BASE + TIERS), "pod:shop/web", "pod:shop/db", port=port) == trace


def test_pass_after_the_last_tier_leads_to_the_profiles() -> None:
    text = """---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {ingress: [{action: Pass}]}
"""
    assert steps(cluster(BASE + text), "pod:lab/probe", "pod:shop/db", port=1) == [
        "default NetworkPolicy shop/p 0 Pass",
        "Profile kns.shop 0 Allow",
    ]


def equal(name: str, kind: str, action: str, namespace: str = "") -> str:
    where = f", namespace: {namespace}" if namespace else ""
    return f"""---
{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: {name}{where}}},
 spec: {{order: 5, ingress: [{{action: {action}}}]}}}}
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a", "NetworkPolicy", "shop"), ("b", "GlobalNetworkPolicy", "")),
        (("b", "GlobalNetworkPolicy", ""), ("b", "NetworkPolicy", "shop")),
        (("b-", "NetworkPolicy", "shop"), ("b", "GlobalNetworkPolicy", "")),
    ],
)
def test_equal_orders_are_decided_by_name_namespace_and_kind(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    """As the string `name/namespace/kind`: `b-/…` sorts before `b/…`."""
    texts = [equal(first[0], first[1], "Allow", first[2]), equal(second[0], second[1], "Deny", second[2])]
    for order in (texts, texts[::-1]):
        found = steps(cluster(BASE + "".join(order)), "pod:lab/probe", "pod:shop/db", port=1)
        assert found[0].endswith("0 Allow"), found


def test_a_policy_without_order_comes_last_and_a_tier_that_is_missing_after_all() -> None:
    texts = (
        equal("a", "GlobalNetworkPolicy", "Pass")
        + """---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: nil}, spec: {ingress: [{action: Deny}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: lost},
 spec: {tier: nowhere, ingress: [{action: Log}]}}
"""
    )
    assert steps(cluster(BASE + texts), "pod:lab/probe", "pod:shop/db", port=1) == [
        "default GlobalNetworkPolicy a 0 Pass",
        "nowhere GlobalNetworkPolicy lost 0 Log",
        "nowhere GlobalNetworkPolicy lost end-of-tier Deny",
    ]


def test_a_tier_with_staged_policies_only_passes() -> None:
    text = """---
{apiVersion: projectcalico.org/v3, kind: StagedGlobalNetworkPolicy, metadata: {name: s},
 spec: {ingress: [{action: Deny}]}}
---
{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, metadata: {name: k, namespace: shop},
 spec: {podSelector: {}}}
"""
    assert steps(cluster(BASE + text), "pod:lab/probe", "pod:shop/db", port=1) == ["Profile kns.shop 0 Allow"]


CLUSTER_WIDE = """---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchLabels: {env: prod}}}
  ingress:
  - {action: Accept, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: lab}}}],
     protocols: [{destinationNamedPort: sql}]}
  - {action: Pass, from: [{namespaces: {matchLabels: {env: prod}}}]}
  - {action: Deny, from: [{namespaces: {}}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{networks: [203.0.113.0/24]}]}]
"""


def test_cluster_policies_come_before_and_after_the_default_tier() -> None:
    found = cluster(BASE + CLUSTER_WIDE + DENY_DB)
    assert steps(found, "pod:lab/probe", "pod:shop/db", port=5432) == [
        "kube-admin KubernetesClusterNetworkPolicy guard 0 Allow"
    ]
    assert steps(found, "pod:lab/probe", "pod:shop/db", port=22) == [
        "kube-admin KubernetesClusterNetworkPolicy guard 2 Deny"
    ]
    assert steps(found, "pod:shop/web", "pod:shop/db", port=22) == [
        "kube-admin KubernetesClusterNetworkPolicy guard 1 Pass",
        "default KubernetesNetworkPolicy shop/db end-of-tier Deny",
    ]
    assert steps(found, "ip:203.0.113.1", "pod:shop/db", port=22)[-1].endswith("end-of-tier Deny")
    assert steps(found, "pod:shop/web", "ip:203.0.113.1", "egress", port=22) == [
        "kube-baseline KubernetesClusterNetworkPolicy base 0 Deny"
    ]


@pytest.mark.parametrize(
    ("source", "target", "fields", "message"),
    [
        ("pod:shop/none", "pod:shop/db", {"port": 1}, "from 'pod:shop/none': there is no such pod that runs"),
        ("host:n9", "pod:shop/db", {"port": 1}, "from 'host:n9': there is no such node"),
        ("ip:nowhere", "pod:shop/db", {"port": 1}, "from 'ip:nowhere': is no IP address"),
        (
            "shop/web",
            "pod:shop/db",
            {"port": 1},
            "from 'shop/web': must be pod:NAMESPACE/NAME",
        ),
        ("pod:shop/web", "pod:shop/db", {}, "port None: TCP needs a port from 1 to 65535"),
        ("pod:shop/web", "pod:shop/db", {"port": 1, "sport": 70000}, "sport 70000: TCP needs a port"),
        ("pod:shop/web", "pod:shop/db", {"protocol": "FOO"}, "protocol 'FOO': is no protocol"),
        (
            "pod:lab/probe",
            "ip:fd00::2",
            {"port": 1},
            "to 'ip:fd00::2': has no address of a family",
        ),
        ("pod:shop/web", "pod:shop/db", {"port": 1, "dnat": "10.0.0.2:x"}, "dnat '10.0.0.2:x': must be ADDRESS:PORT"),
        (
            "pod:shop/web",
            "pod:shop/db",
            {"port": 1, "dnat": "[fd00::2]:1"},
            "dnat '[fd00::2]:1': is not of IP",
        ),
        ("pod:shop/web", "pod:shop/db", {"port": 1, "direction": "up"}, "direction 'up': must be ingress or egress"),
    ],
)
def test_a_flow_that_means_nothing_is_an_error(
    source: str, target: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(FlowError) as caught:
        verdict(cluster(BASE), source, target, **fields)
    assert str(caught.value).startswith(message)


def test_an_address_is_whoevers_it_is() -> None:
    closed = cluster(BASE + DENY_DB)
    assert verdict(closed, "ip:10.0.0.1", "ip:10.0.0.2", port=1) == ("allow", "deny")
    assert verdict(closed, "ip:192.0.2.2", "ip:10.0.0.2", port=1) == ("allow", "allow")
    assert verdict(closed, "ip:192.0.2.1", "ip:10.0.0.2", port=1) == ("allow", "deny")
