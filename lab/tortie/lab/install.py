"""What the Helm chart installs, installed from the same files: CRDs, accounts, roles and their bindings."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tortie.lab.binaries import ROOT
from tortie.lab.pki import LIFETIME, write_private
from tortie.lab.plan import POD_CIDRS

CRDS = ROOT / "crds"
FILES = ROOT / "helm" / "tortie" / "files"
"""The chart's roles (`rbac`) and admission policies."""
NAMESPACE = "tortie-system"
OPERATOR_ACCOUNT, AGENT_ACCOUNT = "tortie-operator", "tortie-agent"
GROUP = "rbac.authorization.k8s.io"

Document = dict[str, Any]

POOLS = [
    {
        "name": "default-ipv4-ippool",
        "cidr": POD_CIDRS[0],
        "blockSize": 26,
        "vxlanMode": "CrossSubnet",
        "natOutgoing": True,
    },
    {"name": "default-ipv6-ippool", "cidr": POD_CIDRS[1], "blockSize": 122, "vxlanMode": "CrossSubnet"},
]
"""The chart's value `ipPools`, as for a kubeadm cluster with POD_CIDRS."""

TOKEN_SECONDS = int(LIFETIME.total_seconds())


def documents() -> list[Document]:
    """Everything but the CRDs: namespace, accounts, and what lies in FILES with a binding for each role."""
    found = [doc for file in sorted(FILES.glob("*/*.yaml")) for doc in yaml.safe_load_all(file.read_text()) if doc]
    return [*accounts(), *found, *bindings(found)]


def accounts() -> Iterator[Document]:
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for name in (OPERATOR_ACCOUNT, AGENT_ACCOUNT):
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}}


def bindings(roles: Iterable[Document]) -> Iterator[Document]:
    """A role is bound to the account whose name it has or continues (`tortie-agent`, `tortie-agent-bgp`)."""
    for role in roles:
        kind, metadata = role["kind"], role["metadata"]
        if kind not in ("ClusterRole", "Role"):
            continue
        account = next(name for name in (OPERATOR_ACCOUNT, AGENT_ACCOUNT) if metadata["name"].startswith(name))
        yield {
            "apiVersion": f"{GROUP}/v1",
            "kind": f"{kind}Binding",
            "metadata": {key: metadata[key] for key in ("name", "namespace") if key in metadata},
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
        }


def manifest() -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents()})


async def write_token(
    kubectl: Callable[..., Awaitable[str]], file: Path, account: str, node: tuple[str, str] | None = None
) -> None:
    """A token of an account in a file, bound to a Node (name, uid) where one is given."""
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
    spec: Document = {"audiences": [], "expirationSeconds": TOKEN_SECONDS}
    if node:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node[0], "uid": node[1]}
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = json.loads(await kubectl("create", "--raw", path, "-f", "-", text=json.dumps(request)))
    write_private(file, answer["status"]["token"].encode())


def operator_command(kubeconfig: Path) -> list[str | Path]:
    program = Path(sys.executable).parent / "tortie-operator"
    return [program, "--kubeconfig", kubeconfig, "--namespace", NAMESPACE, "--ip-pools", json.dumps(POOLS)]
