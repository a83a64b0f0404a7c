"""What a container runs: its command where this machine has it, else an echo server on its ports."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tortie.lab.kubelet.manifest import Container, EnvironmentVariable, Pod

ECHO = Path(__file__).with_name("echo.py")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
REFERENCE = re.compile(r"\$(\$|\((?P<name>[-._a-zA-Z][-._a-zA-Z0-9]*)\))")
"""`$(NAME)`, and `$$` for a dollar sign, in commands, arguments and values of variables."""


class CommandError(Exception):
    """A container cannot be started as its manifest has it; `reason` is what its status says."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Launch:
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/"
    echo: bool = False
    """The image is not here: an echo server stands for it."""


@dataclass(frozen=True)
class Place:
    """Where a pod is, for what its variables refer to."""

    node: str
    host_ips: Sequence[str]
    ips: Sequence[str]


def launch(pod: Pod, container: Container, place: Place) -> Launch:
    base = {"PATH": PATH, "HOME": "/root", "HOSTNAME": pod.hostname}
    if not container.command:
        return _echo(pod, container, base)
    env = environment(pod, container, place, base)
    argv = [expand(part, env) for part in (*container.command, *container.args)]
    program = shutil.which(argv[0], path=env["PATH"])
    if program:
        cwd = container.working_dir if Path(container.working_dir or "-").is_dir() else "/"
        return Launch([program, *argv[1:]], env, cwd)
    if container.ports:
        return _echo(pod, container, base)
    raise CommandError("StartError", f'exec: "{argv[0]}": executable file not found in $PATH')


def _echo(pod: Pod, container: Container, env: Mapping[str, str]) -> Launch:
    ports = [f"{port.protocol.lower()}:{port.container_port}" for port in container.ports]
    argv = [sys.executable, "-I", "-S", str(ECHO), pod.metadata.name, *ports]
    return Launch(argv, env, echo=True)


def environment(pod: Pod, container: Container, place: Place, base: Mapping[str, str]) -> dict[str, str]:
    """A later variable may name an earlier one."""
    env = dict(base)
    for variable in container.env:
        env[variable.name] = (
            expand(variable.value, env) if variable.value_from is None else _field(pod, variable, place)
        )
    return env


def _field(pod: Pod, variable: EnvironmentVariable, place: Place) -> str:
    reference = variable.value_from.field_ref if variable.value_from else None
    if reference is None:
        raise CommandError("CreateContainerConfigError", f"env {variable.name}: of valueFrom, the lab knows fieldRef")
    metadata, spec = pod.metadata, pod.spec
    fields: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: metadata.name,
        "metadata.namespace": lambda: metadata.namespace,
        "metadata.uid": lambda: metadata.uid,
        "spec.nodeName": lambda: place.node,
        "spec.serviceAccountName": lambda: spec.service_account_name,
        "status.hostIP": lambda: place.host_ips[0],
        "status.hostIPs": lambda: ",".join(place.host_ips),
        "status.podIP": lambda: place.ips[0],
        "status.podIPs": lambda: ",".join(place.ips),
    }
    if (path := reference.field_path) in fields:
        return fields[path]()
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return (metadata.labels if match[1] == "labels" else metadata.annotations).get(match[2], "")
    raise CommandError("CreateContainerConfigError", f"env {variable.name}: fieldPath {path!r} is not known")


def expand(text: str, env: Mapping[str, str]) -> str:
    """What names no variable stays as it is, as Kubernetes has it."""

    def value(match: re.Match[str]) -> str:
        return env.get(match["name"], match[0]) if match["name"] else "$"

    return REFERENCE.sub(value, text)
