"""Services by kube-proxy, pods in the node's own network, and host ports."""

from __future__ import annotations

from .cluster import Corner, addresses, eventually, pod, service, target, workload

PORTS = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]


async def test_a_service_spreads_over_its_pods_from_pods_and_nodes(corner: Corner) -> None:
    template = pod("web", containers=[{"name": "main", "image": "a", "ports": PORTS}])
    ports = [{"name": "web", "port": 8000, "targetPort": 80}, {"name": "ask", "port": 53, "protocol": "UDP"}]
    await corner.apply(workload("Deployment", "web", template, replicas=3), service("web", *ports), pod("client"))
    await corner.wait("condition=Available", "deployment/web")
    await corner.ready("client")
    ips = addresses(await corner.get("service/web"))
    paths = [target(ip, *port) for ip in ips for port in ((8000, "tcp"), (53, "udp"))]
    assert len(paths) == 4
    names = {each["metadata"]["name"] for each in await corner.pods("app=web")}
    seen: dict[str, set[str | None]] = {path: set() for path in paths}

    async def all_seen() -> bool:
        for path, name in (await corner.reach("client", *paths)).items():
            seen[path].add(name)
        return all(seen[path] - {None} == names for path in paths)

    await eventually(all_seen)
    for node in corner.lab.plan.node_names:
        assert set((await corner.reach_from_node(node, *paths)).values()) <= names


async def test_a_pod_reaches_itself_through_its_service(corner: Corner) -> None:
    await corner.apply(pod("web", labels={"app": "web"}), service("web", {"port": 80}))
    await corner.ready("web")
    paths = [target(ip) for ip in addresses(await corner.get("service/web"))]

    async def reached() -> bool:
        return await corner.reach("web", *paths) == dict.fromkeys(paths, "web")

    await eventually(reached)


async def test_a_pod_in_the_network_of_its_node_has_the_addresses_of_the_node(corner: Corner) -> None:
    containers = [{"name": "main", "image": "a", "ports": [{"containerPort": 18080}]}]
    first, second, *_ = corner.lab.plan.node_names
    await corner.apply(pod("host", hostNetwork=True, nodeName=first, containers=containers), pod("client"))
    await corner.ready("host", "client")
    obj = await corner.get("pod/host")
    node = corner.lab.plan.node(first)
    assert addresses(obj) == [str(node.v4.ip), str(node.v6.ip)]
    paths = [target(ip, 18080) for ip in addresses(obj)]
    assert await corner.reach_from_node(second, *paths) == dict.fromkeys(paths, "host")
    assert await corner.reach("client", *paths) == dict.fromkeys(paths, "host")
    assert "eth0" in await corner.lab.pod_exec(f"{corner.namespace}/host", ["ip", "-br", "link"])


async def test_a_host_port_leads_to_the_pod_until_it_is_gone(corner: Corner) -> None:
    ports = [
        {"containerPort": 80, "hostPort": 18081},
        {"containerPort": 53, "hostPort": 18053, "protocol": "UDP"},
    ]
    first, second, *_ = corner.lab.plan.node_names
    containers = [{"name": "main", "image": "a", "ports": ports}]
    await corner.apply(pod("ported", nodeName=first, containers=containers))
    await corner.ready("ported")
    node = corner.lab.plan.node(first)
    paths = [target(str(ip), *port) for ip in (node.v4.ip, node.v6.ip) for port in ((18081, "tcp"), (18053, "udp"))]
    assert await corner.reach_from_node(second, *paths) == dict.fromkeys(paths, "ported")
    await corner.kubectl("delete", "pod", "ported", "--timeout=20s")
    ruleset = await corner.lab.node_exec(first, ["nft", "list", "ruleset"])
    assert "18081" not in ruleset
    assert "18053" not in ruleset
