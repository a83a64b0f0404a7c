"""What the API server is told of a pod: from the states of its containers to `status`. Pure.

Phases, conditions and their reasons are a kubelet's (pkg/kubelet/kubelet_pods.go, status/generate.go).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tortie.lab.kubelet import manifest
from tortie.lab.kubelet.manifest import Pod
from tortie.lab.kubelet.records import Ended

Document = dict[str, Any]

SCHEME = "lab://"
"""What container ids begin with, as `containerd://` elsewhere."""


@dataclass(frozen=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    run: str
    started: float


State = Waiting | Running | Ended


@dataclass(frozen=True)
class ContainerView:
    spec: manifest.Container
    state: State
    ready: bool = False
    started: bool = False
    restarts: int = 0
    last: Ended | None = None

    @property
    def initialized(self) -> bool:
        """As an init container: it does not hold up the next one."""
        if self.spec.sidecar:
            return self.started or isinstance(self.state, Ended)
        return isinstance(self.state, Ended) and self.state.exit_code == 0


@dataclass(frozen=True)
class PodView:
    pod: Pod
    host_ips: Sequence[str]
    started: float
    """When this kubelet first saw the pod."""
    sandboxed: bool = False
    ips: Sequence[str] = ()
    containers: Sequence[ContainerView] = ()
    init_containers: Sequence[ContainerView] = ()
    over: bool = False
    """Nothing will be started again, whatever the restart policy says: the pod is being deleted."""
    before: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Conditions as last reported: type → status, time of its last change."""


def pod_status(view: PodView, now: float) -> Document:
    """`status`, to be sent as a strategic merge patch: conditions of others stay."""
    current = phase(view)
    ips = view.host_ips if view.pod.spec.host_network and view.sandboxed else view.ips
    status: Document = {
        "phase": current,
        "observedGeneration": view.pod.metadata.generation,
        "startTime": timestamp(view.started),
        "hostIP": view.host_ips[0],
        "hostIPs": _replacing({"ip": ip} for ip in view.host_ips),
        "conditions": conditions(view, current, now),
        "containerStatuses": [container_status(container) for container in view.containers],
    }
    if ips:
        status |= {"podIP": ips[0], "podIPs": _replacing({"ip": ip} for ip in ips)}
    if view.init_containers:
        status["initContainerStatuses"] = [container_status(container) for container in view.init_containers]
    return status


def phase(view: PodView) -> str:
    if view.over:
        lives = [c.state if isinstance(c.state, Ended) else c.last for c in view.containers]
        return "Succeeded" if all(life and life.exit_code == 0 for life in lives) else "Failed"
    policy = view.pod.spec.restart_policy
    for container in view.init_containers:
        if not container.initialized:
            failed = isinstance(container.state, Ended) and policy == "Never"
            return "Failed" if failed else "Pending"
    if any(isinstance(container.state, Waiting) and container.last is None for container in view.containers):
        return "Pending"
    codes = [container.state.exit_code for container in view.containers if isinstance(container.state, Ended)]
    if len(codes) < len(view.containers) or policy == "Always" or (policy == "OnFailure" and any(codes)):
        return "Running"
    return "Failed" if any(codes) else "Succeeded"


def conditions(view: PodView, current: str, now: float) -> list[Document]:
    serving = [*view.containers, *(container for container in view.init_containers if container.spec.sidecar)]
    begun = [container.spec.name for container in view.init_containers if not container.initialized]
    unready = [container.spec.name for container in serving if not container.ready]
    ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(current)
    good = ("True", None, None)
    not_ready = ("False", ended or "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    ready = not_ready if unready or ended else good
    uninitialized = ("False", "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(begun)}]")
    listed = {
        "PodReadyToStartContainers": good if view.sandboxed and not ended else ("False", None, None),
        "Initialized": uninitialized if begun and current != "Succeeded" else good,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": good,
    }
    return [_condition(view, name, values, now) for name, values in listed.items()]


def _condition(view: PodView, name: str, values: tuple[str, str | None, str | None], now: float) -> Document:
    status, reason, message = values
    before, since = view.before.get(name, ("", ""))
    return {
        "type": name,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since if before == status and since else timestamp(now),
    }


def container_status(container: ContainerView) -> Document:
    status: Document = {
        "name": container.spec.name,
        "image": container.spec.image,
        "imageID": container.spec.image,
        "restartCount": container.restarts,
        "ready": container.ready,
        "started": container.started,
        "state": _state(container.state),
    }
    if not isinstance(container.state, Waiting):
        status["containerID"] = f"{SCHEME}{container.state.run}"
    elif container.last:
        status["containerID"] = f"{SCHEME}{container.last.run}"
    if container.last:
        status["lastState"] = _state(container.last)
    return status


def _state(state: State) -> Document:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        case Running(_, started):
            return {"running": {"startedAt": timestamp(started)}}
    terminated = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": timestamp(state.started),
        "finishedAt": timestamp(state.finished),
        "containerID": f"{SCHEME}{state.run}",
    }
    return {"terminated": terminated | ({"message": state.message} if state.message else {})}


def _replacing(items: Iterable[Document]) -> list[Document]:
    """A list that strategic merge would unite with the one before."""
    return [{"$patch": "replace"}, *items]


def timestamp(seconds: float) -> str:
    """RFC 3339, as metav1.Time has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
