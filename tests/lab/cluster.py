"""What tests of a whole cluster say again and again, in the words of kubectl."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tortie.lab.errors import LabError
from tortie.lab.lab import Lab
from tortie.lab.traffic import COMMAND

Json = dict[str, Any]


@dataclass(frozen=True)
class Corner:
    """A namespace of its own in a lab, for one test."""

    lab: Lab
    namespace: str

    async def kubectl(self, *arguments: str, text: str = "") -> str:
        return await self.lab.kubectl("-n", self.namespace, *arguments, text=text)

    async def apply(self, *manifests: Json) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        await self.kubectl("apply", "--server-side", "-f", "-", text=text)

    async def get(self, what: str) -> Json:
        answer: Json = json.loads(await self.kubectl("get", what, "-o", "json"))
        return answer

    async def pods(self, labels: str = "") -> list[Json]:
        selection = ["-l", labels] if labels else []
        items: list[Json] = json.loads(await self.kubectl("get", "pods", *selection, "-o", "json"))["items"]
        return items

    async def wait(self, condition: str, *what: str, seconds: int = 40) -> None:
        await self.kubectl("wait", f"--for={condition}", *what, f"--timeout={seconds}s")

    async def ready(self, *pods: str, seconds: int = 40) -> None:
        await self.wait("condition=Ready", *(f"pod/{pod}" for pod in pods), seconds=seconds)

    async def until(self, what: str, true: Callable[[Json], Any], seconds: float = 40) -> Json:
        """The object, as soon as `true` of it."""
        deadline = time.monotonic() + seconds
        while True:
            obj = await self.get(what)
            if true(obj):
                return obj
            assert time.monotonic() < deadline, f"{what} after {seconds} s: {json.dumps(obj.get('status'), indent=1)}"
            await asyncio.sleep(0.2)

    async def reasons(self, pod: str) -> dict[str, str]:
        """Reason → messages of the events of a pod."""
        fields = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        events = json.loads(await self.kubectl("get", "events", f"--field-selector={fields}", "-o", "json"))
        said: dict[str, str] = {}
        for event in events["items"]:
            said[event["reason"]] = f"{said.get(event['reason'], '')}{event['message']}\n"
        return said

    async def gone(self, pod: str, seconds: int = 40) -> None:
        await self.wait("delete", f"pod/{pod}", seconds=seconds)

    def record(self, pod: str) -> Json:
        record: Json = self.lab.pod_record(f"{self.namespace}/{pod}")[1]
        return record

    async def log(self, pod: str, container: str = "main", life: int = 0) -> str:
        """What a container printed in one of its lives."""
        obj = await self.get(f"pod/{pod}")
        uid, node = obj["metadata"]["uid"], obj["spec"]["nodeName"]
        path = f"/run/tortie-kubelet/logs/{self.namespace}_{pod}_{uid}/{container}/{life}.log"
        return await self.lab.node_exec(node, ["cat", path])

    async def reach(self, pod: str, *targets: str) -> dict[str, str | None]:
        """Target → the name that answered a pod, or None."""
        said = await self.lab.pod_exec(f"{self.namespace}/{pod}", [*COMMAND, "reach", *targets])
        return answers(said)

    async def reach_from_node(self, node: str, *targets: str) -> dict[str, str | None]:
        return answers(await self.lab.node_exec(node, [*COMMAND, "reach", *targets]))


def answers(said: str) -> dict[str, str | None]:
    return {path["target"]: path.get("answer") for path in json.loads(said)["paths"]}


def pod(name: str, *, labels: Json | None = None, **spec: Any) -> Json:
    """A pod with one container `main` that serves TCP 80, unless `spec` has other `containers`."""
    containers = [{"name": "main", "image": "any/thing", "ports": [{"containerPort": 80}]}]
    metadata = {"name": name, "labels": labels or {}}
    spec = {"containers": containers, "terminationGracePeriodSeconds": 5} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def running(script: str, **more: Any) -> list[Json]:
    """`containers` of a pod that runs a shell script."""
    return [{"name": "main", "image": "any/thing", "command": ["/bin/sh", "-c", script], **more}]


def workload(kind: str, name: str, template: Json, **spec: Any) -> Json:
    """A Deployment, DaemonSet or StatefulSet of pods labelled `app: name`."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": template["spec"]}
    metadata = {"name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def service(name: str, *ports: Json, **spec: Any) -> Json:
    """A dual-stack Service of the pods labelled `app: name`."""
    spec = {"ipFamilyPolicy": "RequireDualStack", "selector": {"app": name}, "ports": list(ports)} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def addresses(obj: Json) -> list[str]:
    """All addresses of a pod, or of a Service."""
    if obj["kind"] == "Service":
        ips: list[str] = obj["spec"]["clusterIPs"]
        return ips
    return [ip["ip"] for ip in obj["status"].get("podIPs", ())]


def target(address: str, port: int = 80, protocol: str = "tcp") -> str:
    return f"{protocol}:{f'[{address}]' if ':' in address else address}:{port}"


def state(obj: Json, container: str = "main") -> Json:
    """The status of a container."""
    statuses = [*obj["status"].get("initContainerStatuses", ()), *obj["status"].get("containerStatuses", ())]
    return next((status for status in statuses if status["name"] == container), {})


def condition(obj: Json, kind: str) -> str:
    return next((each["status"] for each in obj["status"].get("conditions", ()) if each["type"] == kind), "")


async def eventually(true: Callable[[], Awaitable[Any]], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if await true():
                return
        except LabError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.2)
