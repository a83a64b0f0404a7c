"""What the chart renders: complete, the same each time, and the same that the lab runs on."""

from __future__ import annotations

import copy
import re
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from tortie.lab import install

from .conftest import CHART, HelmFailed, Json, identity, one, parsed, render, run, text

ROOT = CHART.parents[1]
CRDS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))}
KEEP = "helm.sh/resource-policy"


def rendered_crds(documents: list[Json]) -> dict[str, Json]:
    found = (document for document in documents if document["kind"] == "CustomResourceDefinition")
    return {document["metadata"]["name"]: document for document in found}


def test_lint_has_no_warning() -> None:
    assert "[WARNING]" not in run("lint", "--strict", CHART)


def test_the_chart_has_the_version_of_the_programs() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_no_object_is_rendered_twice(defaults: list[Json]) -> None:
    names = [identity(document) for document in defaults]
    assert len(names) == len(set(names))


def test_each_crd_is_the_repositorys_with_the_annotation_that_keeps_it(defaults: list[Json]) -> None:
    expected = {}
    for crd in copy.deepcopy(list(CRDS.values())):
        crd["metadata"].setdefault("annotations", {})[KEEP] = "keep"
        expected[crd["metadata"]["name"]] = crd
    assert rendered_crds(defaults) == expected


def test_roles_and_admission_policies_are_those_that_the_lab_installs(defaults: list[Json]) -> None:
    """Labels apart, for accounts; the namespace is made by `helm install --create-namespace`."""
    lab = {identity(document): document for document in install.documents() if document["kind"] != "Namespace"}
    kinds = {kind for kind, _, _ in lab}
    chart = {identity(document): copy.deepcopy(document) for document in defaults if document["kind"] in kinds}
    for document in chart.values():
        if document["kind"] == "ServiceAccount":
            del document["metadata"]["labels"]
    assert chart == lab


def test_another_namespace_holds_everything_but_what_kube_system_must() -> None:
    elsewhere = render(namespace="network")
    namespaces = {namespace for _, namespace, _ in map(identity, elsewhere)}
    assert namespaces == {"", "network", "kube-system"}
    assert "tortie-system" not in text(namespace="network")
    for document in elsewhere:
        assert {subject["namespace"] for subject in document.get("subjects", ())} <= {"network"}


def test_a_second_rendering_is_the_same_to_the_letter() -> None:
    assert text() == text()


def test_no_template_asks_the_cluster_the_clock_or_chance() -> None:
    """`helm template`, Argo CD and `helm upgrade` must agree."""
    forbidden = re.compile(r"\b(lookup|now|date\w*|rand\w+|uuidv4|gen\w+|getHostByName|env|expandenv|htpasswd)\b")
    for path in sorted((CHART / "templates").iterdir()):
        for action in re.findall(r"{{-?(?!/\*)(.*?)-?}}", path.read_text(), re.DOTALL):
            found = forbidden.search(action) if "/*" not in action else None
            assert found is None, f"{path.name}: {found and found[0]}"
        assert ".Capabilities" not in path.read_text(), path.name


def test_the_package_holds_the_crds_themselves_and_renders_the_same(tmp_path: Path, defaults: list[Json]) -> None:
    run("package", CHART, "--destination", tmp_path, home=tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        assert all(member.isfile() for member in archive)
        assert {f"tortie/definitions/{name}" for name in CRDS} <= set(archive.getnames())
    assert parsed(run("template", "tortie", package, "--namespace", "tortie-system")) == defaults


def test_an_older_kubernetes_is_refused() -> None:
    with pytest.raises(HelmFailed, match=r"1\.32\.0"):
        run("template", "tortie", CHART, "--kube-version", "1.31.9")


def test_only_the_agent_has_privileges_and_only_the_listed_ones(defaults: list[Json]) -> None:
    operator = one(defaults, "Deployment", "tortie-operator")["spec"]["template"]["spec"]
    agent = one(defaults, "DaemonSet", "tortie-agent")["spec"]["template"]["spec"]
    assert operator["securityContext"]["runAsNonRoot"]
    assert "volumes" not in operator
    assert operator["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    context = agent["containers"][0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "SYS_ADMIN"]}
    assert context["readOnlyRootFilesystem"]
    assert "privileged" not in context
    assert not {"hostPID", "hostIPC"} & agent.keys()


def test_every_port_and_path_is_one_that_the_programs_use(defaults: list[Json]) -> None:
    """The mounts are the agent's own defaults, so that they need no option."""
    from tortie.nodeagent.main import Options

    options = Options.parse(["--node", "n"])
    agent = one(defaults, "DaemonSet", "tortie-agent")["spec"]["template"]["spec"]
    mounts = {mount["mountPath"] for mount in agent["containers"][0]["volumeMounts"]}
    written = (options.run_dir, options.state_dir, options.bpffs, options.cni_bin_dir, options.cni_conf_dir)
    assert mounts == {str(path) for path in written}
    assert {volume["hostPath"]["path"] for volume in agent["volumes"]} == mounts
