"""Probes and hooks, and what becomes of a container by them."""

from __future__ import annotations

from .cluster import Corner, condition, eventually, pod, running, service, state

SERVE = "exec /usr/bin/python3 -m http.server --bind :: 80"


async def test_readiness_decides_whether_a_service_has_an_endpoint(corner: Corner) -> None:
    flag = f"/run/{corner.namespace}"
    probe = {"exec": {"command": ["test", "-e", flag]}, "periodSeconds": 1, "failureThreshold": 1}
    containers = running("sleep infinity", readinessProbe=probe)
    await corner.apply(service("web", {"port": 80}), pod("web", labels={"app": "web"}, containers=containers))
    await corner.until("pod/web", lambda obj: "running" in state(obj).get("state", {}))

    async def endpoints(ready: bool) -> bool:
        query = "jsonpath={.items[*].endpoints[*].conditions.ready}"
        said = await corner.kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", query)
        return set(said.split()) == {"true" if ready else "false"}

    await eventually(lambda: endpoints(False))
    assert "Unhealthy" in await corner.reasons("web")
    node = (await corner.get("pod/web"))["spec"]["nodeName"]
    await corner.lab.node_exec(node, ["touch", flag])
    await corner.ready("web")
    await eventually(lambda: endpoints(True))
    await corner.lab.node_exec(node, ["rm", flag])
    await corner.wait("condition=Ready=false", "pod/web")
    await eventually(lambda: endpoints(False))
    assert state(await corner.get("pod/web"))["restartCount"] == 0


async def test_http_and_tcp_probes_reach_the_pod_from_its_node(corner: Corner) -> None:
    http = {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 1}
    missing = {"httpGet": {"port": 80, "path": "/no/such/file"}, "periodSeconds": 1}
    tcp, closed = ({"tcpSocket": {"port": port}, "periodSeconds": 1} for port in (80, 81))
    ports = [{"containerPort": 80, "name": "web"}]
    for name, probe in (("http", http), ("missing", missing), ("tcp", tcp), ("closed", closed)):
        await corner.apply(pod(name, containers=running(SERVE, ports=ports, readinessProbe=probe)))
    await corner.ready("http", "tcp")

    async def said() -> bool:
        return "statuscode: 404" in (await corner.reasons("missing")).get("Unhealthy", "")

    await eventually(said)
    for name in ("missing", "closed"):
        obj = await corner.get(f"pod/{name}")
        assert condition(obj, "Ready") == "False"
        assert state(obj)["restartCount"] == 0


async def test_a_container_that_fails_its_liveness_probe_is_restarted(corner: Corner) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    await corner.apply(pod("sick", containers=running("exec sleep infinity", livenessProbe=probe)))
    obj = await corner.until("pod/sick", lambda obj: state(obj).get("restartCount", 0) >= 1)
    assert state(obj)["lastState"]["terminated"]["exitCode"] == 143
    assert "liveness" in (await corner.reasons("sick"))["Killing"]


async def test_a_startup_probe_holds_up_the_others(corner: Corner) -> None:
    flag = f"/run/{corner.namespace}"
    startup = {"exec": {"command": ["test", "-e", flag]}, "periodSeconds": 1, "failureThreshold": 60}
    liveness = {"exec": {"command": ["test", "-e", flag]}, "periodSeconds": 1, "failureThreshold": 1}
    containers = running("exec sleep infinity", startupProbe=startup, livenessProbe=liveness)
    await corner.apply(pod("slow", containers=containers))
    await corner.until("pod/slow", lambda obj: "running" in state(obj).get("state", {}))

    async def asked() -> bool:
        return "Startup" in (await corner.reasons("slow")).get("Unhealthy", "")

    await eventually(asked)
    obj = await corner.get("pod/slow")
    assert (state(obj)["started"], state(obj)["ready"], state(obj)["restartCount"]) == (False, False, 0)
    await corner.lab.node_exec(obj["spec"]["nodeName"], ["touch", flag])
    await corner.ready("slow")
    assert state(await corner.get("pod/slow"))["restartCount"] == 0


async def test_hooks_run_after_the_start_and_before_the_end(corner: Corner) -> None:
    begun, ending = f"/run/{corner.namespace}-begun", f"/run/{corner.namespace}-ending"
    lifecycle = {
        "postStart": {"exec": {"command": ["touch", begun]}},
        "preStop": {"exec": {"command": ["touch", ending]}},
    }
    script = f"trap 'ls {ending}; exit 0' TERM; while :; do sleep 0.1; done"
    await corner.apply(pod("hooked", containers=running(script, lifecycle=lifecycle)))
    await corner.ready("hooked")
    obj = await corner.get("pod/hooked")
    node = obj["spec"]["nodeName"]
    await corner.lab.node_exec(node, ["test", "-e", begun])
    await corner.kubectl("delete", "pod", "hooked", "--timeout=15s")
    name = f"{corner.namespace}_hooked_{obj['metadata']['uid']}"
    log = f"/run/tortie-kubelet/logs/{name}/main/0.log"
    assert await corner.lab.node_exec(node, ["cat", log]) == f"{ending}\n"
