"""The questions of the command line, asked of a real API server: the same answers as of what `kubectl get` prints of
it; and YAML read as kubectl reads it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tortie.cli import clusters
from tortie.cli.main import main
from tortie.validation.documents import documents

from ..controlplane import Cluster, Json

POLICIES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "policies"
FILES = ("cluster.yaml", "tiers.yaml", "network-sets.yaml", "host-endpoints.yaml", "services.yaml")
LISTED = "namespaces,nodes,pods,serviceaccounts,services,endpointslices,networkpolicies.networking.k8s.io,hostendpoints"
CALICO = "tiers,networkpolicies.projectcalico.org,globalnetworkpolicies,globalnetworksets,networksets"
FLOWS = [
    {"id": n, "from": source, "to": target, "protocol": "TCP", "port": port}
    for n, (source, target, port) in enumerate(
        (source, target, port)
        for source in ("pod:shop/cart", "pod:office/intern", "ip:198.51.100.7", "ip:203.0.113.1", "host:node2")
        for target in ("pod:shop/db", "pod:shop/web", "host:node1", "ip:203.0.113.9")
        for port in (22, 5432, 8080)
    )
]


ORDER = ("Namespace", "Node", "ServiceAccount")
NAMESPACES = 3
"""How many namespaces the examples have beside the API server's own."""


def system(each: Json) -> bool:
    return bool(each["kind"] == "Namespace" and each["metadata"]["name"] == "kube-system")


def run(*arguments: str | Path) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([str(each) for each in arguments])
    return code, out.getvalue()


@pytest.fixture(scope="module")
def live(applied: Cluster) -> Iterator[Cluster]:
    """The cluster of the examples, with some of their policies."""
    found = [each for name in FILES for each in yaml.safe_load_all((POLICIES / name).read_text())]
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": each}}
        for each in ("shop", "office", "monitoring", "kube-system")
    ]
    statuses = {(each["kind"], each["metadata"]["name"]): each for each in found if "status" in each}
    own = [{key: each[key] for key in each if key != "status"} for each in found if not system(each)]
    own.sort(key=lambda each: ORDER.index(each["kind"]) if each["kind"] in ORDER else len(ORDER))
    for container in [each for pod in own if pod["kind"] == "Pod" for each in pod["spec"]["containers"]]:
        container["image"] = "none"
    text = yaml.safe_dump_all([*own[:NAMESPACES], *accounts, *own[NAMESPACES:]])
    applied.run("create", "-f", "-", stdin=text)
    for (kind, name), each in statuses.items():
        status = each["status"]
        status |= {"podIP": status["podIPs"][0]["ip"]} if kind == "Pod" else {}
        named = [kind, name, "-n", each["metadata"].get("namespace", "default")]
        applied.run("patch", *named, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    yield applied
    applied.run("delete", "--force", "--wait=false", "-f", "-", stdin=text)


def test_the_live_cluster_answers_as_its_objects_in_files_do(live: Cluster, tmp_path: Path) -> None:
    flows = tmp_path / "flows.jsonl"
    flows.write_text("\n".join(map(json.dumps, FLOWS)))
    arguments = ("policy", "evaluate", "--flows", flows, "-o", "jsonl")
    code, out = run(*arguments, "--kubeconfig", live.kubeconfig)
    answers = [json.loads(line) for line in out.splitlines()]
    assert (code, len(answers)) == (0, len(FLOWS))
    assert {answer["verdict"] for answer in answers} == {"allow", "deny"}
    for output in ("yaml", "json"):
        (tmp_path / f"all.{output}").write_text(live.run("get", f"{LISTED},{CALICO}", "-A", "-o", output))
        assert run(*arguments, "--cluster", tmp_path / f"all.{output}") == (0, out)


def test_why_asks_the_live_cluster(live: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{live.kubeconfig}:/nowhere")
    code, out = run("why", "shop/cart", "shop/sql")
    assert code == 0
    assert out.startswith("shop/cart → 10.1.1.2 TCP 5432: allowed\n")
    assert "NetworkPolicy shop/cart, rule 0: allows" in out


def test_only_what_the_cluster_has_is_listed(cluster: Cluster) -> None:
    """With or without our CRDs: kinds that are not served are none, not an error."""
    found = asyncio.run(clusters._live(cluster.kubeconfig))
    assert any(type(each).__name__ == "Namespace" for each in found)


SCALARS = """
- [y, yes, on, On, n, NO, ~, "", 'yes', 100:52, 1:20, 190:20:30.15, 010, 0o10, 0o8, 09, 0x1f, 0x1_f, 0b11, -0b1, 1_000]
- [1e5, 1e+5, 1e-3, .5, -.5, 5., 1.e3, 1_0.5, +12e03, 1.0, 0.0, -0, 1e400, 1e20, 12345678901234567890, 0777]
- [2020-01-01, 2020-01-01T00:00:00Z, True, TRUE, tRue, Null, NULL, nULL, _1, =, <<, 0x, 0o, "1", !!str 5, !!int "5"]
- [!!float 3, !!bool yes, !own 5, 1,000, "\\x41", 'it''s', a b, -, a-b, a:b, http://x, "\\u00e9", é]
- {yes: 1, 80: 2, 1.5: 3, ~: ~}
- {<<: {a: 1, b: 2}, b: 3}
- {<<: [{a: 1}, {a: 2, c: 3}]}
- &x {a: [1]}
- *x
- |
  one
  ---x
- >-
  folded
  text
""".replace(", ~: ~", "")


def test_yaml_means_what_it_means_to_kubectl(cluster: Cluster) -> None:
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nv:"
    text = head + SCALARS.replace("\n", "\n  ")
    arguments = ("create", "--dry-run=client", "--validate=false", "-f", "-", "-o", "json")
    theirs: Json = json.loads(cluster.run(*arguments, stdin=text))
    (ours,) = documents(text, "-")
    assert ours.problem is None
    for own, other in zip(ours.value["v"], theirs["v"], strict=True):
        assert _numbers(own) == _numbers(other)


def _numbers(value: Any) -> Any:
    """kubectl's own JSON writes numbers beyond 64 bits as floats."""
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value
