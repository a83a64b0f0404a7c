"""Reports on YAML as people write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tortie.validation.documents import documents
from tortie.validation.validate import Report, Validator

CRDS = Path(__file__).resolve().parents[3] / "crds"
VALIDATOR = Validator(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader) for path in sorted(CRDS.glob("*.yaml")))

HEADS = {
    "np": "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: a, namespace: shop}\n",
    "gnp": "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: a}\n",
    "knp": "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: shop}\n",
    "sknp": "apiVersion: projectcalico.org/v3\nkind: StagedKubernetesNetworkPolicy\n"
    "metadata: {name: a, namespace: shop}\n",
}


def reports(text: str) -> list[Report]:
    return VALIDATOR.reports(documents(text, "a.yaml"))


def report(text: str) -> Report:
    (found,) = reports(text)
    return found


def policy(kind: str, spec: str) -> str:
    return f"{HEADS[kind]}spec: {spec}\n"


def thing(kind: str, spec: str, name: str = "a") -> str:
    return f"apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def errors(text: str) -> list[tuple[str, str]]:
    return [(each.field, each.message) for each in report(text).errors]


def warnings(*texts: str) -> list[tuple[str, str]]:
    """Of the first, beside the others."""
    found = reports("---\n".join(texts))
    assert all(each.valid for each in found), found
    return [(each.field, each.message) for each in found[0].warnings]


def said(found: list[tuple[str, str]], field: str) -> list[Any]:
    return [message for each, message in found if each == field]
