"""`tortie lab`: a real Kubernetes cluster on this machine."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any, Protocol

from tortie.lab import Lab, LabError


class Action(Protocol):
    def __call__(self, lab: Lab, options: argparse.Namespace) -> int | None: ...


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers (whose type has no public name)."""
    lab = commands.add_parser("lab", help="a real Kubernetes cluster on this machine", description=__doc__)
    actions = lab.add_subparsers(title="actions", metavar="ACTION", required=True)

    up = _action(actions, "up", start, "start a cluster and wait until it is ready")
    up.add_argument("--nodes", type=int, default=3, metavar="N", help="number of nodes (3)")
    up.add_argument("--subnets", type=int, default=1, metavar="N", help="subnets that the nodes lie in, in turn (1)")
    up.add_argument("--without", default="", help=argparse.SUPPRESS)  # for tests: components not to start, by comma

    _action(actions, "down", remove, "remove a cluster and every trace of it")

    status = _action(actions, "status", show, "show nodes, processes and where the kubeconfig is")
    status.add_argument("-o", "--output", choices=["text", "json"], default="text", help="format (text)")

    logs = _action(actions, "logs", print_logs, "print what components logged")
    logs.add_argument("component", nargs="?", metavar="COMPONENT[/NODE]", help="all of them if absent")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as they are written")

    restart = _action(actions, "restart", restart_component, "restart a component, or reboot a node (node/NAME)")
    restart.add_argument("component", metavar="COMPONENT[/NODE]", help="such as operator, agent/node2, node/node2")

    kubectl = _action(actions, "kubectl", run_kubectl, "run kubectl against the cluster")
    kubectl.add_argument("arguments", nargs="+", metavar="ARGS", help="after --")

    execute = _action(actions, "exec", enter_pod, "run a command in the network namespace of a pod")
    execute.add_argument("pod", metavar="NAMESPACE/POD")
    execute.add_argument("arguments", nargs="+", metavar="CMD", help="after --")


def _action(actions: Any, name: str, action: Action, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument("--name", default="lab", help="which lab (lab); several run side by side")
    parser.set_defaults(run=lambda options: _guarded(action, options))
    return parser


def _guarded(action: Action, options: argparse.Namespace) -> int:
    """Run an action; what can go wrong in a lab is one line on stderr, without a traceback."""
    if os.geteuid() != 0:
        print("tortie lab needs root: it makes namespaces, interfaces and mounts", file=sys.stderr)
        return 1
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", file=sys.stderr, flush=True)

    try:
        return action(Lab(options.name, say), options) or 0
    except LabError as error:
        print(f"tortie lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def start(lab: Lab, options: argparse.Namespace) -> None:
    without = [name for name in options.without.split(",") if name]
    asyncio.run(lab.up(options.nodes, options.subnets, without))
    lab.say("the lab is up")
    name = "" if lab.name == "lab" else f" --name {lab.name}"
    print(f"\n  export KUBECONFIG={lab.kubeconfig}\n  tortie lab kubectl{name} -- get pods -A\n  tortie lab down{name}")


def remove(lab: Lab, options: argparse.Namespace) -> None:
    asyncio.run(lab.down())


def show(lab: Lab, options: argparse.Namespace) -> None:
    status = asyncio.run(lab.status())
    if options.output == "json":
        print(json.dumps(status, indent=2))
        return
    print(f"lab {status['name']}   {status['server']}   KUBECONFIG={status['kubeconfig']}")
    for node in status["nodes"]:
        print(f"  {node['name']:<28} {'  '.join(node['addresses'])}")
    for process in status["processes"]:
        state = f"pid {process['pid']}" if process["pid"] else "down"
        again = f"   ended and started again {process['restarts']} times" if process["restarts"] else ""
        print(f"  {process['component']:<28} {state}{again}")


def print_logs(lab: Lab, options: argparse.Namespace) -> int:
    files = lab.logs(options.component)
    command = ["tail", "-n", "+1", *(["-F"] if options.follow else []), *map(str, files)]
    return subprocess.run(command, check=False).returncode


def restart_component(lab: Lab, options: argparse.Namespace) -> None:
    asyncio.run(lab.restart(options.component))


def run_kubectl(lab: Lab, options: argparse.Namespace) -> int:
    return subprocess.run([*lab.kubectl_command(), *options.arguments], check=False).returncode


def enter_pod(lab: Lab, options: argparse.Namespace) -> int:
    return subprocess.run(lab.pod_command(options.pod, options.arguments), check=False).returncode
