"""Agent and operator, started by the chart's own commands with no more than the chart gives them: user, capabilities, a
read-only root, /proc/sys read-only as runtimes mount it. Takes root."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ..controlplane import free_ports
from ..datapath.conftest import own_network
from ..datapath.runtime import Pod, Runtime, inside, runtime
from ..datapath.test_cni_agent import answers
from ..datapath.test_reconcile_process import ECHO, KUBECONFIG, POD, POD6, REPOSITORY, Host, host, until
from .conftest import NAMESPACE, Cluster, Json, one, render

__all__ = ["host", "own_network"]

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CONTAINER = """
mount --rbind "$HOME" "$HOME"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
exec setpriv --bounding-set "$CAPABILITIES" "$@"
"""
"""What a container runtime does, as far as it takes something away. $HOME holds the mounts that the chart asks for."""


def agent_container() -> Json:
    (found,) = one(render(), "DaemonSet", "tortie-agent")["spec"]["template"]["spec"]["containers"]
    return found


LISTED: list[str] = ["NET_ADMIN", "SYS_ADMIN"]


@dataclass
class Confined(Host):
    """A node whose agent has these capabilities."""

    capabilities: list[str] = field(default_factory=lambda: LISTED)

    def start(self) -> subprocess.Popen[bytes]:
        (self.home / "kubeconfig").write_text(json.dumps(KUBECONFIG))
        directories = {"state-dir": "state", "run-dir": "run", "bpffs": "bpffs"}
        directories |= {"cni-bin-dir": "bin", "cni-conf-dir": "net.d"}
        for name in directories.values():
            (self.home / name).mkdir(exist_ok=True)
        options = [f"--{option}={self.home / name}" for option, name in directories.items()]
        build = REPOSITORY / "build"
        options += [f"--bpf-dir={build / 'bpf'}", f"--cni-plugin={build / 'cni' / 'tortie'}"]
        options += ["--node=a", f"--kubeconfig={self.home / 'kubeconfig'}"]
        environment = os.environ | {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CAPABILITIES": ",".join(["-all", *(f"+{name.lower()}" for name in self.capabilities)]),
        }
        wrapper = ["unshare", "--mount", "--propagation=private", "sh", "-ec", CONTAINER, "container"]
        process = subprocess.Popen(
            [*wrapper, *agent_container()["command"], *options], stderr=(self.home / "log").open("ab"), env=environment
        )
        self.processes.append(process)
        return process


@pytest.fixture
def confined(host: Host) -> Confined:
    made = Confined(host.home, host.processes)
    made.remember()
    return made


@pytest.fixture
def rt(host: Host) -> Iterator[Runtime]:
    with runtime(host.home) as rt:
        yield rt


def test_the_tests_capabilities_are_the_charts() -> None:
    assert agent_container()["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": LISTED}


def test_what_the_chart_gives_is_enough_for_an_agent_that_attaches_pods(confined: Confined, rt: Runtime) -> None:
    confined.start()
    until(confined.ready, within=30)
    assert (confined.home / "net.d" / "10-tortie.conflist").exists()
    pod = Pod("c1")
    rt.start(pod)
    status, answer = asyncio.run(rt.add(pod))
    assert status == 0, answer
    assert asyncio.run(rt.check(pod)) == (0, None)
    sandbox = rt.sandbox(pod.container)
    confined.processes.append(subprocess.Popen(["nsenter", f"--net={sandbox}", sys.executable, "-c", ECHO]))
    until(lambda: ":7 " in inside(sandbox, "ss -Hlun"))
    ask = "import socket,sys; s=socket.create_connection"
    del ask
    assert answers(POD, within=5)
    assert answers(POD6, within=5)
    assert "not permitted" not in confined.log()
    assert "Read-only" not in confined.log()


@pytest.mark.parametrize("missing", LISTED)
def test_each_capability_is_needed(confined: Confined, missing: str) -> None:
    confined.capabilities = [name for name in LISTED if name != missing]
    process = confined.start()
    until(lambda: process.poll() is not None or "ermi" in confined.log(), within=30)
    assert "ermission denied" in confined.log() or "not permitted" in confined.log()
    assert not confined.ready()


OPERATOR = """
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
cp "$GIVEN/token" "$GIVEN/ca.crt" /run/secrets/kubernetes.io/serviceaccount
chmod -R a+rX /run
mount -o remount,bind,ro /run
mount -o remount,bind,ro /
exec setpriv --reuid "$USER_ID" --regid "$GROUP_ID" --clear-groups --bounding-set=-all --no-new-privs "$@"
"""


@pytest.fixture
def operator(applied: Cluster, tmp_path: Path) -> Iterator[str]:
    """URL of an operator that the chart told of the API server and of a pool."""
    host, port = applied.server.removeprefix("https://").split(":")
    (own_port,) = free_ports(1)
    pools = [{"name": "pods", "cidr": "10.9.0.0/16"}]
    values = {
        "apiServer": {"host": host, "port": int(port)},
        "ipPools": pools,
        "operator": {"metricsPort": own_port},
    }
    pod = one(render(values), "Deployment", "tortie-operator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (tmp_path / "token").write_text(applied.run("create", "token", "-n", NAMESPACE, pod["serviceAccountName"]).strip())
    (tmp_path / "ca.crt").write_bytes(applied.authority.pair.certificate.read_bytes())
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": "/",  # as runtimes have it for a user without a name
        "GIVEN": str(tmp_path),
        "USER_ID": str(pod["securityContext"]["runAsUser"]),
        "GROUP_ID": str(pod["securityContext"]["runAsGroup"]),
    }
    command = container["command"] + [text.replace("$(NAMESPACE)", NAMESPACE) for text in container["args"]]
    wrapper = ["unshare", "--mount", "--propagation=private", "sh", "-ec", OPERATOR, "container"]
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen([*wrapper, *command], stdout=log, stderr=log, env=environment)
    try:
        yield f"http://127.0.0.1:{own_port}"
    finally:
        process.terminate()
        process.wait()
        print((tmp_path / "log").read_text())


def test_the_operator_leads_as_its_account_without_a_privilege_or_a_place_to_write(
    operator: str, applied: Cluster
) -> None:
    def answers(path: str) -> bool:
        try:
            with urllib.request.urlopen(operator + path, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until(lambda: answers("/readyz"), within=30)
    assert answers("/livez")
    pools = "/apis/projectcalico.org/v3/ippools"
    until(
        lambda: [pool["metadata"]["name"] for pool in applied.request("GET", pools)[1]["items"]] == ["pods"], within=30
    )
