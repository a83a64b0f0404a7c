"""A real etcd and kube-apiserver on the loopback, with our CRDs. Needs neither root nor a network.

Everybody may do everything there: RBAC is the lab's concern.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tortie.lab import binaries, pki

CRDS = Path(__file__).resolve().parents[2] / "crds"
READY_WITHIN = 60.0
TOKEN = secrets.token_hex(16)

Json = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    server: str
    kubectl: Path
    kubeconfig: Path

    def request(self, method: str, path: str, body: Json | None = None, content_type: str = "json") -> tuple[int, Json]:
        """Status code and decoded answer; a refusal is an answer too."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, method=method)
        request.add_header("Content-Type", f"application/{content_type}")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Accept", "application/json")
        context = ssl._create_unverified_context()
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else {"message": text}

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints; fails the test if kubectl does."""
        command: list[str | Path] = [self.kubectl, f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = os.environ | {"HOME": str(self.kubeconfig.parent)}
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout


def definitions() -> list[Json]:
    """The CRDs as they are checked in."""
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("control-plane")
    programs = binaries.find(print)
    client, peer, api = _free_ports(3)
    server = f"https://127.0.0.1:{api}"
    commands = [_etcd(programs["etcd"], directory, client, peer), _apiserver(programs, directory, client, api)]
    started = []
    try:
        for command in commands:
            log = (directory / f"{Path(command[0]).name}.log").open("w")
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=directory))
        running = Cluster(server, programs["kubectl"], _kubeconfig(directory, server))
        _wait_ready(running, started, directory)
        yield running
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def applied(cluster: Cluster) -> Cluster:
    """The cluster with all CRDs established and served."""
    cluster.run("apply", "--server-side", "-f", str(CRDS))
    cluster.run("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    for crd in definitions():
        path = collection(crd)
        _until(partial(_serves, cluster, path), f"{path} is not served")
    return cluster


def collection(crd: Json) -> str:
    """API path of the CRD's objects, all of which are cluster-scoped."""
    spec = crd["spec"]
    return f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"


def fields(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every property below `node`, with its path; list items are `[]`, map values `{}`."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    if "items" in node:
        yield from fields(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from fields(node["additionalProperties"], f"{path}{{}}")


def _etcd(program: Path, directory: Path, client: int, peer: int) -> list[str]:
    urls = {"client": f"http://127.0.0.1:{client}", "peer": f"http://127.0.0.1:{peer}"}
    return [
        str(program),
        "--name=test",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={urls['client']}",
        f"--advertise-client-urls={urls['client']}",
        f"--listen-peer-urls={urls['peer']}",
        f"--initial-advertise-peer-urls={urls['peer']}",
        f"--initial-cluster=test={urls['peer']}",
        "--unsafe-no-fsync",
    ]


def _apiserver(programs: dict[str, Path], directory: Path, client: int, api: int) -> list[str]:
    signing = pki.signing_key(directory, "service-accounts")
    (directory / "tokens.csv").write_text(f"{TOKEN},tester,tester,system:masters\n")
    return [
        str(programs["kube-apiserver"]),
        f"--etcd-servers=http://127.0.0.1:{client}",
        f"--secure-port={api}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--cert-dir={directory / 'certificates'}",
        "--authorization-mode=AlwaysAllow",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={signing.certificate}",
        f"--service-account-signing-key-file={signing.key}",
    ]


def _kubeconfig(directory: Path, server: str) -> Path:
    path = directory / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _serves(cluster: Cluster, path: str) -> bool:
    return cluster.request("GET", path)[0] == 200


def _wait_ready(cluster: Cluster, started: list[subprocess.Popen[bytes]], directory: Path) -> None:
    def ready() -> bool:
        for process in started:
            if process.poll() is not None:
                logs = "\n".join(log.read_text()[-2000:] for log in directory.glob("*.log"))
                pytest.fail(f"process {process.pid} ended:\n{logs}")
        try:
            return _serves(cluster, "/api/v1/namespaces/default")
        except OSError:
            return False

    _until(ready, "kube-apiserver is not ready")


def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(otherwise)
        time.sleep(0.1)
