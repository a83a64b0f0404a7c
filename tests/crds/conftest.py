"""The API server of tests/controlplane.py with our CRDs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from ..controlplane import Cluster, Json, cluster, until

__all__ = ["Cluster", "Json", "cluster"]

CRDS = Path(__file__).resolve().parents[2] / "crds"


def definitions() -> list[Json]:
    """The CRDs as they are checked in."""
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


@pytest.fixture(scope="session")
def applied(cluster: Cluster) -> Cluster:
    """The cluster with all CRDs established and served."""
    cluster.run("apply", "--server-side", "-f", str(CRDS))
    cluster.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    for crd in definitions():
        path = collection(crd)
        until(partial(_serves, cluster, path), f"{path} is not served")
    return cluster


def examples() -> list[Json]:
    """Objects that together use every field of the users' kinds."""
    files = sorted((Path(__file__).parent / "examples").glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def collection(crd: Json) -> str:
    """API path of the CRD's objects; of namespaced ones those in `default`."""
    spec = crd["spec"]
    namespace = "/namespaces/default" if spec["scope"] == "Namespaced" else ""
    return f"/apis/{spec['group']}/{spec['versions'][0]['name']}{namespace}/{spec['names']['plural']}"


def schema(crd: Json) -> Json:
    found: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """`node` and every schema below it, with its path; list items are `[]`, map values `{}`."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def fields(node: Json) -> Iterator[tuple[str, Json]]:
    """Every property below `node`, with its path."""
    return ((path, child) for path, child in nodes(node) if path and path[-1] not in "]}")


def _serves(cluster: Cluster, path: str) -> bool:
    return cluster.request("GET", path)[0] == 200
