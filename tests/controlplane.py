"""A real etcd and kube-apiserver on the loopback, which can be stopped and started again. Neither root nor a network.

TLS and RBAC are on; the users of TOKENS may do everything.
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
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from tortie.lab import binaries, pki

READY_WITHIN = 60.0
TOKENS = {name: secrets.token_hex(16) for name in ("tester", "other")}
"""User → bearer token."""

Json = dict[str, Any]


class Cluster:
    """The parts of a control plane; everything that they write is below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._programs = binaries.find(print)
        self.kubectl = self._programs["kubectl"]
        self._etcd_client, self._etcd_peer, self.port = free_ports(3)
        self.server = f"https://127.0.0.1:{self.port}"
        self.etcd = f"http://127.0.0.1:{self._etcd_client}"
        self.authority = pki.Authority(directory / "pki", "ca")
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        (directory / "tokens.csv").write_text("".join(f"{TOKENS[u]},{u},{u},system:masters\n" for u in TOKENS))
        self.write_kubeconfig(self.kubeconfig, self.server, {"token": TOKENS["tester"]})

    def write_kubeconfig(self, path: Path, server: str, user: Json) -> Path:
        """One context for `server`, whose certificate is checked, and a user as kubeconfigs spell one."""
        cluster = {"server": server, "certificate-authority": str(self.authority.pair.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": user}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def start(self) -> None:
        """etcd, then kube-apiserver; returns when it serves."""
        for command in (self._etcd_command, self._apiserver_command):
            name = Path(command[0]).name
            log = (self.directory / f"{name}.log").open("a")
            self._started[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        until(self._ready, "kube-apiserver is not ready")

    def stop(self) -> None:
        """As a crash: kill -9, kube-apiserver first."""
        for process in reversed(self._started.values()):
            process.kill()
            process.wait()
        self._started.clear()

    @property
    def data(self) -> Path:
        """etcd's data directory."""
        return self.directory / "etcd-data"

    def request(
        self, method: str, path: str, body: Json | None = None, content_type: str = "json", user: str = ""
    ) -> tuple[int, Json]:
        """Status code and decoded answer; a refusal is an answer too. `user` is whom the tester stands for."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data, method=method)
        request.add_header("Content-Type", f"application/{content_type}")
        request.add_header("Authorization", f"Bearer {TOKENS['tester']}")
        request.add_header("Accept", "application/json")
        if user:
            request.add_header("Impersonate-User", user)
        context = ssl.create_default_context(cafile=self.authority.pair.certificate)
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as response:
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

    @cached_property
    def _etcd_command(self) -> list[str]:
        peer = f"http://127.0.0.1:{self._etcd_peer}"
        return [
            str(self._programs["etcd"]),
            "--name=test",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.etcd}",
            f"--advertise-client-urls={self.etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            "--unsafe-no-fsync",
        ]

    @cached_property
    def _apiserver_command(self) -> list[str]:
        serving = self.authority.issue("apiserver", "kube-apiserver", hosts=["127.0.0.1"])
        signing = pki.signing_key(self.directory / "pki", "service-accounts")
        return [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers={self.etcd}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={self.authority.pair.certificate}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signing.certificate}",
            f"--service-account-signing-key-file={signing.key}",
        ]

    def _ready(self) -> bool:
        for name, process in self._started.items():
            if process.poll() is not None:
                pytest.fail(f"{name} ended:\n{(self.directory / f'{name}.log').read_text()[-4000:]}")
        try:
            return self.request("GET", "/api/v1/namespaces/default")[0] == 200
        except OSError:
            return False


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    cluster = Cluster(directory)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("control-plane")) as cluster:
        yield cluster


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(otherwise)
        time.sleep(0.05)
