"""docs/install.md: its commands run in their order, its Application, its table of privileges."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ..controlplane import running, until
from .conftest import CHART, Cluster, Json, one, program, render

ROOT = CHART.parents[1]
TEXT = (ROOT / "docs" / "install.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", TEXT, re.MULTILINE)
WAITING = ("kubectl --namespace tortie-system rollout status ", "kubectl wait --for=condition=Ready nodes ")
"""These wait for nodes, of which there are none here."""


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path) as cluster:
        yield cluster


def test_the_commands_run_one_after_another(bare: Cluster, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "helm").symlink_to(program())
    (programs / "kubectl").symlink_to(bare.kubectl)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(bare.kubeconfig),
    }
    assert sum(command.startswith(WAITING) for command in COMMANDS) == len(WAITING)
    for command in COMMANDS:
        if command.startswith(WAITING):
            continue
        shell = ["bash", "-o", "pipefail", "-c", command]
        result = subprocess.run(
            shell, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        if command.startswith("helm upgrade tortie helm/tortie --namespace tortie-system --set"):
            options = bare.run("get", "deployment", "-n", "tortie-system", "tortie-operator", "-o", "yaml")
            assert '"cidr":"10.244.0.0/16"' in options
    until(lambda: bare.run("get", "crds", "-o", "name") == "", "CRDs are left")


def test_the_application_names_this_chart_and_values_that_it_takes() -> None:
    (application,) = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    source = application["spec"]["source"]
    assert (ROOT / source["path"]).samefile(CHART)
    assert source["targetRevision"] == f"v{yaml.safe_load((CHART / 'Chart.yaml').read_text())['version']}"
    assert len(render(source["helm"]["valuesObject"], application["spec"]["destination"]["namespace"])) > 50
    assert "ServerSideApply=true" in application["spec"]["syncPolicy"]["syncOptions"]


def test_the_table_of_privileges_names_what_the_agent_holds(defaults: list[Json]) -> None:
    agent = one(defaults, "DaemonSet", "tortie-agent")["spec"]["template"]["spec"]
    context = agent["containers"][0]["securityContext"]
    held = {*context["capabilities"]["add"], *(volume["hostPath"]["path"] for volume in agent["volumes"])}
    held |= {key for key in ("hostNetwork", "hostPID", "hostIPC") if agent.get(key)}
    held |= context.keys() - {"capabilities", "readOnlyRootFilesystem"}
    rows = re.findall(r"^\| agent \| (.+?) \|", TEXT, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert told == held
