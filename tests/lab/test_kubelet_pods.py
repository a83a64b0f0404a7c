"""Pods and what the controllers of a real control plane make of them."""

from __future__ import annotations

import asyncio
import json

import pytest

from tortie.lab.machine import MachineError

from .cluster import Corner, addresses, condition, eventually, pod, running, state, target, workload


async def test_pods_of_a_deployment_answer_with_their_names_over_both_families(corner: Corner) -> None:
    await corner.apply(workload("Deployment", "web", pod("web"), replicas=3), pod("client"))
    await corner.wait("condition=Available", "deployment/web")
    await corner.ready("client")
    expected = {target(ip): each["metadata"]["name"] for each in await corner.pods("app=web") for ip in addresses(each)}
    assert len(expected) == 6
    assert await corner.reach("client", *expected) == expected


async def test_a_rolling_update_replaces_every_pod(corner: Corner) -> None:
    await corner.apply(workload("Deployment", "web", pod("web"), replicas=2))
    await corner.wait("condition=Available", "deployment/web")
    before = {each["metadata"]["uid"] for each in await corner.pods()}
    await corner.kubectl("set", "env", "deployment/web", "VERSION=2")
    await corner.kubectl("rollout", "status", "deployment/web", "--timeout=40s")
    assert not before & {each["metadata"]["uid"] for each in await corner.pods() if condition(each, "Ready") == "True"}


async def test_a_daemon_set_has_one_pod_on_each_node(corner: Corner) -> None:
    await corner.apply(workload("DaemonSet", "each", pod("each")))
    await corner.kubectl("rollout", "status", "daemonset/each", "--timeout=40s")
    assert sorted(each["spec"]["nodeName"] for each in await corner.pods()) == corner.lab.plan.node_names


async def test_a_stateful_set_starts_in_order_and_keeps_its_names(corner: Corner) -> None:
    await corner.apply(workload("StatefulSet", "db", pod("db"), replicas=2, serviceName="db"))
    await corner.kubectl("rollout", "status", "statefulset/db", "--timeout=40s")
    first, second = await corner.get("pod/db-0"), await corner.get("pod/db-1")
    assert first["metadata"]["creationTimestamp"] <= second["metadata"]["creationTimestamp"]
    await corner.kubectl("delete", "pod", "db-0")
    again = await corner.until("statefulset/db", lambda obj: obj["status"].get("readyReplicas") == 2)
    assert again["status"]["replicas"] == 2
    assert (await corner.get("pod/db-0"))["metadata"]["uid"] != first["metadata"]["uid"]


async def test_jobs_succeed_and_fail_with_their_commands(corner: Corner) -> None:
    for name, script in (("good", "echo done; exit 0"), ("bad", "echo broken >&2; exit 7")):
        template = {"spec": {"restartPolicy": "Never", "containers": running(script)}}
        spec = {"template": template, "backoffLimit": 0}
        await corner.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})
    await corner.wait("condition=Complete", "job/good")
    await corner.wait("condition=Failed", "job/bad")
    [good], [bad] = await corner.pods("job-name=good"), await corner.pods("job-name=bad")
    assert (good["status"]["phase"], bad["status"]["phase"]) == ("Succeeded", "Failed")
    assert state(good)["state"]["terminated"]["exitCode"] == 0
    assert state(bad)["state"]["terminated"]["exitCode"] == 7
    assert await corner.log(good["metadata"]["name"]) == "done\n"
    assert await corner.log(bad["metadata"]["name"]) == "broken\n"


async def test_an_ended_pod_gives_up_its_network_and_can_be_deleted(corner: Corner) -> None:
    await corner.apply(pod("short", restartPolicy="Never", containers=running("exit 0")))
    await corner.wait("jsonpath={.status.phase}=Succeeded", "pod/short")
    node = (await corner.get("pod/short"))["spec"]["nodeName"]
    uid = (await corner.get("pod/short"))["metadata"]["uid"]

    async def forgotten() -> bool:
        try:
            await corner.lab.node_exec(node, ["test", "-e", f"/run/tortie-kubelet/records/{uid}.json"])
        except MachineError:
            return True
        return False

    await eventually(forgotten)
    with pytest.raises(Exception, match="runs on no node"):
        corner.record("short")
    await corner.kubectl("delete", "pod", "short", "--timeout=10s")


async def test_a_container_that_fails_is_started_again_and_backs_off(corner: Corner) -> None:
    await corner.apply(pod("crash", containers=running("echo life; exit 3")))
    obj = await corner.until("pod/crash", lambda obj: state(obj).get("restartCount", 0) >= 2)
    assert state(obj)["lastState"]["terminated"]["exitCode"] == 3
    assert obj["status"]["phase"] == "Running"
    await corner.until("pod/crash", lambda obj: "CrashLoopBackOff" in json.dumps(state(obj)["state"]))
    assert "BackOff" in await corner.reasons("crash")
    assert await corner.log("crash", life=1) == "life\n"


async def test_init_containers_come_one_after_another_and_sidecars_stay(corner: Corner) -> None:
    init = [
        {"name": "first", "image": "a", "command": ["/bin/sh", "-c", "sleep 0.5; date +%s%N"]},
        {"name": "beside", "image": "a", "command": ["sleep", "infinity"], "restartPolicy": "Always"},
        {"name": "second", "image": "a", "command": ["/bin/sh", "-c", "date +%s%N"]},
    ]
    main = running("date +%s%N; sleep 1")
    await corner.apply(pod("steps", initContainers=init, containers=main, restartPolicy="Never"))
    await corner.until("pod/steps", lambda obj: "running" in state(obj).get("state", {}))
    assert "running" in state(await corner.get("pod/steps"), "beside")["state"]
    times = [int(await corner.log("steps", name)) for name in ("first", "second", "main")]
    assert times == sorted(times)
    await corner.wait("jsonpath={.status.phase}=Succeeded", "pod/steps")


async def test_a_failed_init_container_fails_the_pod(corner: Corner) -> None:
    init = [{"name": "first", "image": "a", "command": ["false"]}]
    await corner.apply(pod("stuck", initContainers=init, restartPolicy="Never"))
    await corner.wait("jsonpath={.status.phase}=Failed", "pod/stuck")
    assert condition(await corner.get("pod/stuck"), "Initialized") == "False"


async def test_variables_come_from_the_manifest_and_from_the_pod(corner: Corner) -> None:
    fields = {"NAME": "metadata.name", "NODE": "spec.nodeName", "IPS": "status.podIPs", "APP": "metadata.labels['app']"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    env.append({"name": "GREETING", "value": "hello $(NAME) $$(NAME) $(NOBODY)"})
    containers = running("echo $GREETING, $NODE $IPS $APP $(hostname); sleep infinity", env=env)
    await corner.apply(pod("told", labels={"app": "x"}, containers=containers))
    await corner.ready("told")
    obj = await corner.get("pod/told")
    ips = ",".join(addresses(obj))
    node = obj["spec"]["nodeName"]
    assert await corner.log("told") == f"hello told $(NAME) $(NOBODY), {node} {ips} x told\n"


async def test_a_deleted_pod_has_its_grace_to_end_in(corner: Corner) -> None:
    trap = "trap 'echo ending; sleep 1; echo ended; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    await corner.apply(
        pod("polite", containers=running(trap), terminationGracePeriodSeconds=20),
        pod("deaf", containers=running("trap '' TERM; while :; do sleep 0.1; done"), terminationGracePeriodSeconds=2),
    )
    await corner.ready("polite", "deaf")
    node = (await corner.get("pod/polite"))["spec"]["nodeName"]
    uid = (await corner.get("pod/polite"))["metadata"]["uid"]
    started = asyncio.get_running_loop().time()
    await corner.kubectl("delete", "pod", "deaf", "polite", "--timeout=10s")
    assert 2 <= asyncio.get_running_loop().time() - started < 8
    log = f"/run/tortie-kubelet/logs/{corner.namespace}_polite_{uid}/main/0.log"
    assert await corner.lab.node_exec(node, ["cat", log]) == "up\nending\nended\n"


async def test_a_pod_of_the_same_name_comes_while_the_old_one_ends(corner: Corner) -> None:
    script = "trap '' TERM; while :; do sleep 0.1; done"
    node = corner.lab.plan.node_names[0]
    await corner.apply(pod("twin", containers=running(script), nodeName=node, terminationGracePeriodSeconds=8))
    await corner.ready("twin")
    old = corner.record("twin")
    await corner.lab.stop(f"kubelet/{node}", grace=0)
    await corner.kubectl("delete", "pod", "twin", "--force", "--grace-period=0", "--wait=false")
    await corner.apply(pod("twin", nodeName=node))
    await corner.lab.start(f"kubelet/{node}")
    await corner.ready("twin")
    new = corner.record("twin")
    assert new["netns"] != old["netns"]
    await corner.lab.node_exec(node, ["test", "-e", old["netns"]])  # it is still ending

    async def old_is_gone() -> bool:
        try:
            await corner.lab.node_exec(node, ["test", "-e", old["netns"]])
        except MachineError:
            return True
        return False

    await eventually(old_is_gone)
    assert corner.record("twin") == new
    mine = [target(ip) for ip in addresses(await corner.get("pod/twin"))]
    assert await corner.reach_from_node(node, *mine) == dict.fromkeys(mine, "twin")


async def test_an_image_that_is_not_here_is_an_echo_server(corner: Corner) -> None:
    ports = [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]
    await corner.apply(pod("echo", containers=[{"name": "main", "image": "some/app", "ports": ports}]))
    await corner.ready("echo")
    obj = await corner.get("pod/echo")
    paths = [target(ip, *port) for ip in addresses(obj) for port in ((8080, "tcp"), (53, "udp"))]
    node = obj["spec"]["nodeName"]
    assert await corner.reach_from_node(node, *paths) == dict.fromkeys(paths, "echo")
    request = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode(), end='')"
    url = f"http://{addresses(obj)[0]}:8080/any/path"
    assert await corner.lab.node_exec(node, ["/usr/bin/python3", "-c", request, url]) == "echo\n"


async def test_an_image_that_is_not_here_serves_sctp_where_the_kernel_can(corner: Corner) -> None:
    port = {"containerPort": 5000, "protocol": "SCTP"}
    await corner.apply(pod("echo", containers=[{"name": "main", "image": "some/app", "ports": [port]}]))
    await corner.ready("echo")

    async def said() -> bool:
        return "sctp:5000" in await corner.log("echo")

    await eventually(said)
    if "not serving" in await corner.log("echo"):
        pytest.skip("this kernel has no SCTP")
    ip = addresses(await corner.get("pod/echo"))[0]
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP);"
        "s.connect((sys.argv[1], 5000)); s.sendall(b'who\\n'); print(s.recv(99).decode(), end='')"
    )
    assert await corner.lab.pod_exec(f"{corner.namespace}/echo", ["/usr/bin/python3", "-c", ask, ip]) == "echo\n"


async def test_a_command_that_cannot_run_says_so(corner: Corner) -> None:
    containers = [{"name": "main", "image": "a", "command": ["/no/such/program"]}]
    secret = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    await corner.apply(
        pod("lost", containers=containers, restartPolicy="Never"),
        pod("secret", containers=running("exit 0", env=[secret]), restartPolicy="Never"),
    )
    for name, reason in (("lost", "StartError"), ("secret", "CreateContainerConfigError")):
        obj = await corner.until(f"pod/{name}", lambda obj: "terminated" in state(obj).get("state", {}))
        assert state(obj)["state"]["terminated"]["reason"] == reason
        assert obj["status"]["phase"] == "Failed"
    assert "X" in state(obj)["state"]["terminated"]["message"]


async def test_lab_exec_runs_in_the_network_of_the_pod(corner: Corner) -> None:
    await corner.apply(pod("here"))
    await corner.ready("here")
    said = json.loads(await corner.lab.pod_exec(f"{corner.namespace}/here", ["ip", "-j", "address", "show", "eth0"]))
    inside = {each["local"] for each in said[0]["addr_info"] if each["scope"] == "global"}
    assert inside == set(addresses(await corner.get("pod/here")))
