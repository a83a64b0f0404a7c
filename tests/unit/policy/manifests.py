"""Objects and verdicts from YAML as people write it."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from tortie.api.compiled import CompiledRule
from tortie.policy.build import Finding, build, records
from tortie.policy.cluster import Cluster
from tortie.policy.convert import Conversion, Policy, convert
from tortie.policy.evaluate import Verdict, evaluate
from tortie.policy.flows import Flow

HEADS = {
    "np": ("projectcalico.org/v3", "NetworkPolicy"),
    "gnp": ("projectcalico.org/v3", "GlobalNetworkPolicy"),
    "snp": ("projectcalico.org/v3", "StagedNetworkPolicy"),
    "sgnp": ("projectcalico.org/v3", "StagedGlobalNetworkPolicy"),
    "sknp": ("projectcalico.org/v3", "StagedKubernetesNetworkPolicy"),
    "knp": ("networking.k8s.io/v1", "NetworkPolicy"),
    "cnp": ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
}


def policy(kind: str, spec: str, namespace: str = "shop", name: str = "p", uid: str = "") -> Conversion:
    """The conversion of a policy whose spec is YAML."""
    api_version, long = HEADS[kind]
    metadata = {"name": name, "uid": uid} | ({} if kind in ("gnp", "sgnp", "cnp") else {"namespace": namespace})
    document = {"apiVersion": api_version, "kind": long, "metadata": metadata, "spec": yaml.safe_load(spec) or {}}
    (record,) = records([document])
    assert isinstance(record, Policy)
    return convert(record)


def rule(kind: str, text: str, direction: str = "ingress") -> CompiledRule:
    """The normal form of a rule that is understood, without its id."""
    conversion = policy(kind, f"{{selector: has(a), {direction}: [{text}]}}")
    assert conversion.errors == ()
    (compiled,) = getattr(conversion.spec, direction)
    assert isinstance(compiled, CompiledRule)
    return msgspec.structs.replace(compiled, id="")


def problems(conversion: Conversion) -> list[tuple[str, str]]:
    return [(problem.field, problem.value) for problem in conversion.errors]


def cluster(text: str) -> Cluster:
    built, findings = build(records(yaml.safe_load_all(text)))
    assert findings == []
    return built


def findings(text: str) -> list[Finding]:
    return build(records(yaml.safe_load_all(text)))[1]


def ask(of: Cluster, source: str, target: str, **fields: Any) -> Verdict:
    return evaluate(of, msgspec.convert({"from": source, "to": target, **fields}, Flow))


def verdict(of: Cluster, source: str, target: str, **fields: Any) -> tuple[str, str]:
    """Of both sides."""
    found = ask(of, source, target, **fields)
    assert found.egress
    assert found.ingress
    return found.egress.verdict, found.ingress.verdict


def steps(of: Cluster, source: str, target: str, side: str = "ingress", **fields: Any) -> list[str]:
    """The trace of a side: `tier kind namespace/name rule action`, without what is empty."""
    found = getattr(ask(of, source, target, **fields), side)
    return [
        " ".join(
            part
            for part in (
                step.tier,
                step.kind,
                f"{step.namespace}/{step.name}" if step.namespace else step.name,
                str(step.rule),
                step.action,
            )
            if part
        )
        for step in found.trace
    ]


BASE = """
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {rack: a}},
 status: {addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 192.0.2.1},
                      {type: InternalIP, address: '2001:db8::1'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {env: prod}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: lab}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n2, serviceAccountName: keeper, containers: [{ports: [{name: sql, containerPort: 5432}]}]}
status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: lab, labels: {app: web}}
spec: {nodeName: n1}
status: {podIPs: [{ip: 10.0.0.3}]}
---
{apiVersion: v1, kind: Pod, metadata: {name: proxy, namespace: lab}, spec: {nodeName: n2, hostNetwork: true},
 status: {podIPs: [{ip: 192.0.2.2}]}}
"""
"""Two nodes, two namespaces; three pods, of which two are in `shop`, and one in the host's network."""
