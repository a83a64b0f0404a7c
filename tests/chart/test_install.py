"""The chart against a real API server: accepted, stable under every way to apply it, installed and removed by Helm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ..controlplane import running
from .conftest import (
    CHART,
    NAMESPACE,
    SERVER_SIDE,
    Cluster,
    HelmFailed,
    Json,
    Values,
    apply_twice,
    identity,
    one,
    render,
    run,
    text,
)
from .test_values import EFFECTS, TOGETHER, nested

EVERYTHING: Values = {}
"""All values off their defaults at once."""
for path, (value, *_) in EFFECTS.items():
    group, _, rest = path.partition(".")
    if not rest:
        EVERYTHING[group] = value
        continue
    into = EVERYTHING.setdefault(group, {})
    for key in rest.split(".")[:-1]:
        into = into.setdefault(key, {})
    into[rest.rsplit(".", 1)[-1]] = value
for path, (beside, value, *_) in TOGETHER.items():
    group, name = path.split(".")
    EVERYTHING[group] |= beside[group] | {name: value}


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of its own, with nothing in it."""
    with running(tmp_path) as cluster:
        yield cluster


def versions(cluster: Cluster, *arguments: str, manifest: str) -> dict[tuple[str, str, str], str]:
    """resourceVersion of each object after an apply of all; it moves with each write that changes something."""
    answer = json.loads(cluster.run("apply", *arguments, "-o", "json", "-f", "-", stdin=manifest))
    return {identity(item): item["metadata"]["resourceVersion"] for item in answer["items"]}


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything else"])
def test_every_object_is_accepted_by_the_api_server(prepared: Cluster, values: Values) -> None:
    """Unknown and doubled fields are errors, as Argo CD and `kubectl --validate=strict` have it."""
    manifest = text(values)
    answer = prepared.run(
        "apply", "--dry-run=server", "--server-side", "--validate=strict", "-o", "name", "-f", "-", stdin=manifest
    )
    assert len(answer.split()) == len(render(values)) > 50


def test_a_further_server_side_apply_changes_nothing(applied: Cluster) -> None:
    stays_the_same(applied, *SERVER_SIDE)


def test_a_further_client_side_apply_changes_nothing(bare: Cluster) -> None:
    bare.run("create", "namespace", NAMESPACE)
    apply_twice(bare)
    stays_the_same(bare)


def stays_the_same(cluster: Cluster, *ways: str) -> None:
    manifest = text()
    assert cluster.run("diff", *ways, "-f", "-", stdin=manifest) == ""
    first = versions(cluster, *ways, manifest=manifest)
    assert versions(cluster, *ways, manifest=manifest) == first


def test_helm_installs_upgrades_and_removes_and_the_crds_stay(bare: Cluster, tmp_path: Path) -> None:
    """No controller runs here, so that no pod comes to be; Helm does not wait for any."""

    def helm(*arguments: str | Path, stdin: str = "") -> str:
        return run(*arguments, "--namespace", NAMESPACE, stdin=stdin, kubeconfig=bare.kubeconfig, home=tmp_path)

    notes = helm("install", "tortie", older_chart(tmp_path), "--create-namespace")
    assert f"kubectl --namespace {NAMESPACE} rollout status daemonset/tortie-agent" in notes
    release = json.loads(bare.run("get", "secrets", "-n", NAMESPACE, "-l", "owner=helm", "-o", "json"))["items"]
    assert len(release[0]["data"]["release"]) < 700_000, "a Secret may hold 1 MiB, and charts grow"
    bare.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    pool = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "pods"}}
    bare.run("apply", "-f", "-", stdin=json.dumps(pool | {"spec": {"cidr": "10.9.0.0/16"}}))
    columns = ("get", "crd", "ippools.projectcalico.org", "-o", "jsonpath={..additionalPrinterColumns[*].name}")
    assert "CIDR" not in bare.run(*columns)

    helm("upgrade", "tortie", CHART, "--values", "-", stdin=yaml.safe_dump(nested("operator.replicas", 3)))
    deployment = json.loads(bare.run("get", "deployment", "-n", NAMESPACE, "tortie-operator", "-o", "json"))
    assert deployment["spec"]["replicas"] == 3
    assert "CIDR" in bare.run(*columns)

    helm("uninstall", "tortie")
    crds = {document["metadata"]["name"] for document in render() if document["kind"] == "CustomResourceDefinition"}
    assert {name.partition("/")[2] for name in bare.run("get", "crds", "-o", "name").split()} == crds
    assert "10.9.0.0/16" in bare.run("get", "ippools.projectcalico.org", "pods", "-o", "yaml")
    ours = ("deployments,daemonsets,poddisruptionbudgets,serviceaccounts,rolebindings", "-n", NAMESPACE)
    assert "tortie" not in bare.run("get", *ours, "-o", "name")
    wide = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,flowschemas"
    assert "tortie" not in bare.run("get", wide, "-o", "name")

    helm("install", "tortie", CHART)


def older_chart(directory: Path) -> Path:
    """The chart with an IPPool that prints no columns."""
    older = shutil.copytree(CHART, directory / "tortie")
    file = older / "definitions" / "projectcalico.org_ippools.yaml"
    crd = yaml.safe_load(file.read_text())
    del crd["spec"]["versions"][0]["additionalPrinterColumns"]
    file.write_text(yaml.safe_dump(crd))
    return older


def test_agents_and_operator_have_a_line_of_their_own_at_the_api_server(applied: Cluster) -> None:
    schemas = json.loads(applied.run("get", "flowschemas", "-o", "json"))["items"]
    general = one(schemas, "FlowSchema", "service-accounts")
    assert one(schemas, "FlowSchema", "tortie")["spec"]["matchingPrecedence"] < general["spec"]["matchingPrecedence"]


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "tortie-operator"), ("DaemonSet", "tortie-agent")])
def test_the_pods_of_the_templates_are_admitted(applied: Cluster, defaults: list[Json], kind: str, name: str) -> None:
    """Their priority and account, which are looked up for pods only."""
    pod = one(defaults, kind, name)["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] = pod["metadata"] | {"name": name, "namespace": NAMESPACE}
    answer = json.loads(applied.run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod)))
    assert answer["spec"]["priority"] >= 2_000_000_000


def test_a_failure_of_helm_fails_the_test(tmp_path: Path) -> None:
    with pytest.raises(HelmFailed, match="no-such-chart"):
        run("template", "x", tmp_path / "no-such-chart")
