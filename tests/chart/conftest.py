"""The chart as the real Helm renders it, and the API server of tests/controlplane.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..controlplane import Cluster, Json, cluster
from . import build

__all__ = ["Cluster", "Json", "cluster"]

CHART = Path(__file__).resolve().parents[2] / "helm" / "tortie"
NAMESPACE = "tortie-system"
POD_MONITOR = Path(__file__).parent / "podmonitors.yaml"
SERVER_SIDE = ("--server-side", "--field-manager=argocd-controller")

Values = dict[str, Any]
Helm = Callable[..., str]


class HelmFailed(AssertionError):
    """Helm's word on what it refused."""


@cache
def program() -> Path:
    return build.find(print)


def run(*arguments: str | Path, stdin: str = "", kubeconfig: Path | None = None, home: Path | None = None) -> str:
    """What Helm prints. Raises HelmFailed."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home or "/nonexistent")}
    if kubeconfig:
        environment["KUBECONFIG"] = str(kubeconfig)
    result = subprocess.run(
        [program(), *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    if result.returncode:
        raise HelmFailed(f"helm {' '.join(map(str, arguments))}: {result.stdout}{result.stderr}")
    return result.stdout


def text(values: Values | None = None, namespace: str = NAMESPACE) -> str:
    """What `helm template` prints for values beside the chart's own."""
    return run(
        "template", "tortie", CHART, "--namespace", namespace, "--values", "-", stdin=yaml.safe_dump(values or {})
    )


def parsed(manifest: str) -> list[Json]:
    return [document for document in yaml.load_all(manifest, yaml.CSafeLoader) if document]


def render(values: Values | None = None, namespace: str = NAMESPACE) -> list[Json]:
    return parsed(text(values, namespace))


def identity(document: Json) -> tuple[str, str, str]:
    """Kind, namespace ("" if it has none), name."""
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def one(documents: list[Json], kind: str, name: str) -> Json:
    found = [document for document in documents if (document["kind"], document["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


@pytest.fixture(scope="session")
def defaults() -> list[Json]:
    """What the chart renders when no value is given."""
    return render()


@pytest.fixture(scope="session")
def prepared(cluster: Cluster) -> Cluster:
    """With the chart's namespace, and the kind PodMonitor as the Prometheus operator defines it."""
    cluster.run("create", "namespace", NAMESPACE)
    cluster.run("apply", "-f", str(POD_MONITOR))
    cluster.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    return cluster


@pytest.fixture(scope="session")
def applied(prepared: Cluster) -> Cluster:
    """With the chart, as Argo CD applies it."""
    apply_twice(prepared, *SERVER_SIDE)
    return prepared


def apply_twice(cluster: Cluster, *ways: str) -> None:
    """CRDs get their conditions after the first, which is a write, but none of ours."""
    manifest = text()
    for _ in range(2):
        cluster.run("apply", *ways, "-f", "-", stdin=manifest)
        cluster.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
