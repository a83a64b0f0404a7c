"""The agent as a process, its API server down: what it keeps, what it restores, what it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tortie.api.internal import (
    CompiledPolicy,
    Endpoint,
    LabelSet,
    NodePeer,
    NodePeerSpec,
    NodeState,
    NodeStateSpec,
    Pool,
    Tunnels,
    veth_name,
)
from tortie.api.kubernetes import Namespace, ServiceAccount
from tortie.api.meta import Metadata
from tortie.nodeagent.adoption import KINDS
from tortie.nodeagent.endpoints import EndpointRecord, EndpointStore
from tortie.nodeagent.last import Kept, LastObjects, restored
from tortie.policy.convert import profile_of_namespace, profile_of_service_account

pytestmark = [pytest.mark.usefixtures("own_network"), pytest.mark.timeout(120)]

REPOSITORY = Path(__file__).parents[2]
POD, POD6 = "10.65.0.2", "fd65::2"
VETH = veth_name("default", "web")
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {"token": "none"}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
}
ECHO = """
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 7))
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(data, peer)
"""


def sh(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def until(condition: Callable[[], Any], within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def objects() -> dict[str, list[Any]]:
    """A cluster of two nodes, as node `a` saw it last."""
    state = NodeState(
        metadata=Metadata(name="a", generation=3, resource_version="10"),
        spec=NodeStateSpec(
            pools=(
                Pool(cidr="10.65.0.0/16", vxlan_mode="Always", nat_outgoing=True),
                Pool(cidr="fd65::/48", vxlan_mode="Never"),
            )
        ),
    )
    own = NodePeerSpec(
        addresses=("192.0.2.1", "2001:db8::1"),
        blocks=("10.65.0.0/26", "fd65::/122"),
        tunnels=Tunnels(vxlan4="10.65.0.1"),
        label_sets=(LabelSet(labels={"app": "web"}, namespace="default", service_account="default"),),
        endpoints=(Endpoint(name="default/web", uid="uid-web", addresses=(POD, POD6)),),
    )
    other = NodePeerSpec(
        addresses=("192.0.2.2", "2001:db8::2"), blocks=("10.65.1.0/26",), tunnels=Tunnels(vxlan4="10.65.1.1")
    )
    return {
        "nodestates": [state],
        "nodepeers": [
            NodePeer(metadata=Metadata(name=name, resource_version="12"), spec=spec)
            for name, spec in (("a", own), ("b", other))
        ],
        "compiledpolicies": [
            CompiledPolicy(metadata=Metadata(name=name, resource_version="11"), spec=spec)
            for name, spec in (
                ("kns.default", profile_of_namespace(Namespace(metadata=Metadata(name="default")))),
                (
                    "ksa.default.default",
                    profile_of_service_account(ServiceAccount(metadata=Metadata(namespace="default", name="default"))),
                ),
            )
        ],
    }


@dataclass
class Host:
    """A node: directories, namespaces and agents, one after another."""

    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def remember(self) -> None:
        """Put the last objects on disk."""
        known = objects()
        last = LastObjects(self.home / "state" / "last.db")
        for kind in KINDS:
            last.touch(kind)
        last.save(restored({kind: Kept(20, 20, known.get(kind, [])) for kind in KINDS}))

    def start(self) -> subprocess.Popen[bytes]:
        (self.home / "kubeconfig").write_text(json.dumps(KUBECONFIG))
        command = [
            sys.executable, "-m", "tortie.nodeagent.main", "--node", "a",
            "--kubeconfig", self.home / "kubeconfig",
            "--state-dir", self.home / "state",
            "--run-dir", self.home / "run",
            "--bpf-dir", REPOSITORY / "build" / "bpf",
            "--bpffs", self.home / "bpffs",
            "--cni-bin-dir", self.home / "bin",
            "--cni-conf-dir", self.home / "net.d",
            "--cni-plugin", REPOSITORY / "build" / "cni" / "tortie",
            "--metrics-port", "9091",
        ]  # fmt: skip
        process = subprocess.Popen(command, stderr=(self.home / "log").open("ab"))
        self.processes.append(process)
        return process

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen("http://127.0.0.1:9091/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def pod(self) -> None:
        """A sandbox that an earlier agent attached."""
        sandbox = subprocess.Popen(["unshare", "-n", sys.executable, "-c", f"import time; time.sleep(0.3)\n{ECHO}"])
        self.processes.append(sandbox)
        until(lambda: os.readlink(f"/proc/{sandbox.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        sh(f"ip link add {VETH} type veth peer name eth0 netns {sandbox.pid}")
        inside = f"nsenter -t {sandbox.pid} -n"
        sh(
            f"{inside} sh -c 'ip link set lo up; ip addr add {POD}/32 dev eth0;"
            f"ip -6 addr add {POD6}/128 dev eth0 nodad;"
            f"ip link set eth0 up; ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1;"
            f"ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0'"
        )
        mac = json.loads(sh(f"{inside} ip -j link show dev eth0"))[0]["address"]
        index = json.loads(sh(f"ip -j link show dev {VETH}"))[0]["ifindex"]
        record = EndpointRecord(
            container_id="c1",
            ifname="eth0",
            netns=f"/proc/{sandbox.pid}/ns/net",
            namespace="default",
            name="web",
            uid="uid-web",
            host_ifname=VETH,
            host_ifindex=index,
            pod_mac=mac,
            addresses=(POD, POD6),
            mtu=1450,
            created=time.time(),
        )
        EndpointStore.load(self.home / "run" / "endpoints").put(record)

    def log(self) -> str:
        return (self.home / "log").read_text()


@pytest.fixture
def host(tmp_path: Path, own_network: None) -> Iterator[Host]:
    sh("ip link add uplink type veth peer name other")
    sh("ip addr add 192.0.2.1/24 dev uplink; ip addr add 2001:db8::1/64 dev uplink nodad")
    sh("ip link set uplink up; ip link set other up; ip route add default via 192.0.2.254")
    (tmp_path / "bpffs").mkdir()
    sh(f"mount -t bpf bpf {tmp_path}/bpffs")
    made = Host(tmp_path)
    try:
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.wait()
        sh(f"umount {tmp_path}/bpffs")


class Stream:
    """A datagram to the pod and back every 5 ms."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect((address, 7))
        self._socket.settimeout(0.2)
        self._stopping = threading.Event()
        self.sent, self.returned = 0, set[int]()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _send(self) -> None:
        while not self._stopping.is_set():
            self._socket.send(str(self.sent).encode())
            self.sent += 1
            time.sleep(0.005)

    def _receive(self) -> None:
        while True:
            try:
                self.returned.add(int(self._socket.recv(64)))
            except TimeoutError:
                if self._stopping.is_set():
                    return
            except OSError:
                continue


def answers(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        try:
            probe.sendto(b"0", (address, 7))
            return probe.recv(64) == b"0"
        except OSError:
            return False


def test_before_the_first_complete_picture_the_kernel_is_left_alone(host: Host) -> None:
    host.pod()
    show = "ip -d link; ip addr; ip route show table all; ip -6 route show table all; ip neigh; nft list ruleset"
    until(lambda: "tentative" not in sh("ip addr"))
    before = sh(show)
    host.start()
    time.sleep(3)
    assert sh(show) == before
    assert not host.ready()
    assert not (host.home / "net.d").exists()
    assert not (host.home / "run" / "cni.sock").exists()


def test_with_the_api_server_down_everything_is_restored(host: Host) -> None:
    host.remember()
    host.pod()
    host.start()
    until(host.ready)
    assert "via 10.65.1.1 dev vxlan.calico" in sh("ip route show 10.65.1.0/26")
    assert "unreachable" in sh("ip route show type unreachable 10.65.0.0/26")
    assert "192.0.2.2" in sh("bridge fdb show dev vxlan.calico")
    assert "masquerade" in sh("nft list table inet tortie")
    until(lambda: answers(POD), within=3)
    until(lambda: answers(POD6), within=3)
    conflist = json.loads((host.home / "net.d" / "10-tortie.conflist").read_text())
    assert (conflist["name"], conflist["plugins"][0]["type"]) == ("k8s-pod-network", "tortie")
    assert os.access(host.home / "bin" / "tortie", os.X_OK)
    assert (host.home / "run" / "cni.sock").is_socket()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_loses_nothing(host: Host, number: signal.Signals) -> None:
    host.remember()
    host.pod()
    first = host.start()
    until(host.ready)
    until(lambda: answers(POD) and answers(POD6))
    with Stream(POD) as four, Stream(POD6) as six:
        time.sleep(0.3)
        first.send_signal(number)
        first.wait()
        time.sleep(0.3)
        host.start()
        until(host.ready)
        time.sleep(0.5)
    assert len(four.returned) == four.sent > 100
    assert len(six.returned) == six.sent > 100
    assert "repaired" not in host.log()


def test_the_agent_stops_in_order_and_leaves_the_kernel(host: Host) -> None:
    host.remember()
    process = host.start()
    until(host.ready)
    process.terminate()
    assert process.wait(timeout=5) == 0
    assert "vxlan.calico" in sh("ip route show 10.65.1.0/26")
    assert sh("nft list table inet tortie")
