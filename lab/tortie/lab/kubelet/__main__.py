"""The kubelet stand-in's process: options, wiring, lifetime. Pods outlive it."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tortie.kube import log as json_log
from tortie.kube.client import Client
from tortie.kube.informer import Informer
from tortie.kube.resources import POD
from tortie.lab.kubelet.cni import Cni
from tortie.lab.kubelet.events import Events
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.network import Network
from tortie.lab.kubelet.node import NodeKeeper, addresses
from tortie.lab.kubelet.pods import Pods
from tortie.lab.kubelet.probes import Prober
from tortie.lab.kubelet.records import Store
from tortie.lab.kubelet.worker import Node


@dataclass(frozen=True)
class Options:
    node: str
    kubeconfig: Path
    run_dir: Path

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Options:
        parser = argparse.ArgumentParser(prog="tortie.lab.kubelet", description=__doc__)
        parser.add_argument("--node", required=True, help="name of this Node")
        parser.add_argument("--kubeconfig", type=Path, required=True)
        parser.add_argument("--run-dir", type=Path, required=True, help="is empty after a reboot")
        return cls(**vars(parser.parse_args(arguments)))


async def run(options: Options) -> None:
    """Until SIGTERM; the pods stay."""
    host_ips = addresses()
    cni = Cni()
    connector = aiohttp.TCPConnector(force_close=True, limit=0)  # each probe is a connection of its own
    async with (
        await Client.connect(options.kubeconfig, user_agent="tortie-lab-kubelet") as client,
        aiohttp.ClientSession(connector=connector) as session,
        asyncio.TaskGroup() as tasks,
    ):
        network = Network(cni, lambda: pods.attachments(), lambda: keeper.network_changed())
        keeper = NodeKeeper(client, options.node, host_ips, lambda: network.reason)
        events = Events(client, options.node)
        store = Store(options.run_dir)
        node = Node(options.node, host_ips, client, cni, network, store, events, Prober(session))
        pods = Pods(node, tasks)
        pods.resume()
        await network.look()  # before anything is said of the node: a restart must not make it unready
        fields = f"spec.nodeName={options.node}"
        informer = Informer(client, POD, Pod, listener=pods.take, fields=fields, name="pods")
        for duty in (network.run(), keeper.run(), events.run(), informer.run()):
            tasks.create_task(duty)


def main() -> None:
    options = Options.parse()
    json_log.setup("kubelet", "info", node=options.node)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # all that must survive is on disk at any time
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
