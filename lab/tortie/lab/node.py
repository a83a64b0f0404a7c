"""What a node of the lab runs and the files that it needs for it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tortie.lab import pki
from tortie.lab.binaries import ROOT
from tortie.lab.components import AGENT, KUBELET, PROXY
from tortie.lab.errors import LabError
from tortie.lab.machine import Machine
from tortie.lab.plan import API_PORT, POD_CIDRS, Plan

CONFIG = Path("/etc/kubernetes")
"""Where a node finds its credentials, as on any node; on the host it is in the machine's disk."""
AGENT_TOKEN = "tortie-agent.token"
PROGRAMS = Path(sys.executable).parent
PORTMAP = Path("/usr/lib/cni/portmap")
"""The reference plugin for host ports, from Debian's containernetworking-plugins."""


def server(plan: Plan) -> str:
    """The API server as nodes reach it."""
    return f"https://{plan.control.v4.ip}:{API_PORT}"


def config_directory(machine: Machine) -> Path:
    return machine.directory / "disk" / CONFIG.relative_to("/")


def write_config(plan: Plan, machine: Machine, authority: pki.Authority) -> None:
    """Credentials and settings of everything on the node but the agent's token, which takes a Node object."""
    directory = config_directory(machine)
    ca = authority.pair.certificate
    kubelet = authority.issue(f"kubelet-{machine.name}", f"system:node:{machine.name}", ["system:nodes"])
    proxy = authority.issue(f"kube-proxy-{machine.name}", "system:kube-proxy")
    pki.write_kubeconfig(directory / "kubelet.conf", server(plan), ca, kubelet)
    pki.write_kubeconfig(directory / "kube-proxy.conf", server(plan), ca, proxy)
    pki.write_kubeconfig(directory / "tortie-agent.conf", server(plan), ca, CONFIG / AGENT_TOKEN)
    (directory / "kube-proxy.yaml").write_text(json.dumps(proxy_configuration(machine.name), indent=1))


def install_plugins(machine: Machine) -> None:
    """What a distribution puts into /opt/cni/bin; Tortie's own plugin is brought by its agent."""
    directory = machine.directory / "disk" / "opt" / "cni" / "bin"
    directory.mkdir(parents=True, exist_ok=True)
    if not PORTMAP.exists():
        raise LabError(f"there is no {PORTMAP}: apt-get install containernetworking-plugins")
    shutil.copy(PORTMAP, directory)


def proxy_configuration(node: str) -> dict[str, object]:
    """kube-proxy as kubeadm sets it up, but in nftables mode, and leaving the host's conntrack size alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(CONFIG / "kube-proxy.conf")},
        "clusterCIDR": ",".join(POD_CIDRS),
        "hostnameOverride": node,
        "conntrack": {"maxPerCore": 0},
    }


def commands(node: str, proxy: Path) -> dict[str, list[str | Path]]:
    """Command lines of a node's components; `proxy` is kube-proxy's binary."""
    kubelet: list[str | Path] = ["-m", "tortie.lab.kubelet", "--node", node, "--kubeconfig", CONFIG / "kubelet.conf"]
    agent: list[str | Path] = ["--node", node, "--kubeconfig", CONFIG / "tortie-agent.conf"]
    return {
        KUBELET: [sys.executable, *kubelet, "--run-dir", "/run/tortie-kubelet"],
        PROXY: [proxy, "--config", CONFIG / "kube-proxy.yaml"],
        AGENT: [
            PROGRAMS / "tortie-agent",
            *agent,
            *("--bpf-dir", ROOT / "build" / "bpf", "--cni-plugin", ROOT / "build" / "cni" / "tortie"),
        ],
    }
