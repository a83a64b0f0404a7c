"""The node agent's process: options, wiring, lifetime."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import REGISTRY
from pyroute2 import AsyncIPRoute

from tortie.kube import log as json_log
from tortie.kube.client import Client
from tortie.kube.life import Heart, until_stopped
from tortie.kube.serve import serve
from tortie.nodeagent.adoption import Adoption
from tortie.nodeagent.agent import Agent, Kernel
from tortie.nodeagent.cni import conflist
from tortie.nodeagent.cni.server import Server
from tortie.nodeagent.connections import Sweep
from tortie.nodeagent.counters import DatapathCollector
from tortie.nodeagent.endpoints import EndpointStore
from tortie.nodeagent.kernel.bpf import BpfReconciler
from tortie.nodeagent.kernel.devices import Devices
from tortie.nodeagent.kernel.links import LinksReconciler
from tortie.nodeagent.kernel.monitor import Monitor
from tortie.nodeagent.kernel.neighbours import NeighboursReconciler
from tortie.nodeagent.kernel.nft import NftReconciler
from tortie.nodeagent.kernel.policy import PolicyReconciler
from tortie.nodeagent.kernel.reconcile import Convergence
from tortie.nodeagent.kernel.routes import RoutesReconciler
from tortie.nodeagent.last import LastObjects
from tortie.nodeagent.maps.filters import guarded
from tortie.nodeagent.metrics import AgentCollector
from tortie.nodeagent.report import Reporter
from tortie.nodeagent.watch import Watches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    node: str
    kubeconfig: Path | None
    state_dir: Path
    run_dir: Path
    bpf_dir: Path
    bpffs: Path
    cni_bin_dir: Path
    cni_conf_dir: Path
    cni_plugin: Path
    metrics_port: int

    @property
    def cni_socket(self) -> Path:
        return self.run_dir / "cni.sock"

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Options:
        parser = argparse.ArgumentParser(prog="tortie-agent", description="Tortie's node agent")
        parser.add_argument("--node", required=True, help="name of this Node")
        parser.add_argument("--kubeconfig", type=Path, help="absent: the pod's service account")
        parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/tortie"), help="survives a reboot")
        parser.add_argument("--run-dir", type=Path, default=Path("/run/tortie"), help="does not")
        parser.add_argument("--bpf-dir", type=Path, default=Path("/usr/lib/tortie/bpf"), help="holds the *.bpf.o")
        parser.add_argument("--bpffs", type=Path, default=Path("/sys/fs/bpf"))
        parser.add_argument("--cni-bin-dir", type=Path, default=Path("/opt/cni/bin"))
        parser.add_argument("--cni-conf-dir", type=Path, default=Path("/etc/cni/net.d"))
        parser.add_argument("--cni-plugin", type=Path, default=Path("/usr/lib/tortie/cni/tortie"))
        parser.add_argument("--metrics-port", type=int, default=9091)
        return cls(**vars(parser.parse_args(arguments)))


async def run(options: Options) -> None:
    """Everything, until SIGTERM or SIGINT; the kernel stays as it is."""
    last = LastObjects(options.state_dir / "last.db")
    adoption = Adoption(last.load())
    store = EndpointStore.load(options.run_dir / "endpoints")
    devices = Devices()
    agent = Agent(options.node, adoption, store, devices, last)
    async with contextlib.AsyncExitStack() as stack:
        route = await stack.enter_async_context(AsyncIPRoute())
        monitor = stack.enter_context(Monitor(agent.observe, agent.lost))
        await devices.read(route)

        def prepare() -> None:
            monitor.drain()
            agent.plan()

        convergence = Convergence(monitor.drain, prepare)
        routes = RoutesReconciler(route, devices)
        # The stop for unseen packets first, programs and policy before devices go up, these before what runs over them.
        kernel = Kernel(
            nft=convergence.add(NftReconciler()),
            datapath=convergence.add(BpfReconciler(options.bpf_dir, options.bpffs)),
            policy=convergence.add(PolicyReconciler(options.bpffs)),
            links=convergence.add(LinksReconciler(route, devices, guarded)),
            neighbours=convergence.add(NeighboursReconciler(route, devices)),
            routes=convergence.add(routes),
        )
        agent.attach(convergence, kernel, routes)
        client = await stack.enter_async_context(await Client.connect(options.kubeconfig, user_agent="tortie-agent"))
        watches = Watches(client, options.node, adoption, last, agent.adopted)
        REGISTRY.register(AgentCollector(agent, watches))
        REGISTRY.register(DatapathCollector(options.bpffs))
        heart = Heart()
        server = Server(agent, store, options.cni_socket)

        def ready() -> str | None:
            return agent.ready() or server.ready()

        await until_stopped(
            convergence.run(),
            watches.run(),
            last.run(adoption.streams),
            Reporter(client, agent).run(),
            heart.run(),
            Sweep(options.bpffs).run(),
            serve(options.metrics_port, heart.stopped, ready),
            attach_pods(options, agent, server),
        )


async def attach_pods(options: Options, agent: Agent, server: Server) -> None:
    """Once the first complete picture is in the kernel: answer the plugin, then let the runtime know of it."""
    while agent.ready():
        await agent.news()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        await server.listening.wait()
        await conflist.install(options.cni_plugin, options.cni_bin_dir, options.cni_conf_dir, options.cni_socket)
        log.info("pods can be attached")


def main() -> None:
    options = Options.parse()
    json_log.setup("agent", "info", node=options.node)
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
