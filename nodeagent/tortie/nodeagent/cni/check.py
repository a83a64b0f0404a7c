"""CHECK: what of an attachment is not as ADD left it."""

from __future__ import annotations

from collections.abc import Iterator

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from tortie.nodeagent.cni import veth
from tortie.nodeagent.cni.result import GATEWAY4, Result, prefixed
from tortie.nodeagent.cni.sandbox import Sandbox
from tortie.nodeagent.desired import GATEWAY6, HOST_MAC
from tortie.nodeagent.endpoints import EndpointRecord


def against_result(previous: Result, record: EndpointRecord) -> Iterator[str]:
    """Where what the runtime remembers and what we remember differ. Plugins after us may have added to it."""
    interfaces = {interface.name: interface for interface in previous.interfaces}
    for name, mac in ((record.host_ifname, HOST_MAC), (record.ifname, record.pod_mac)):
        told = interfaces.get(name)
        if told is None:
            yield f"prevResult has no interface {name}"
        elif told.mac != mac:
            yield f"prevResult has {name} with mac {told.mac!r}, not {mac}"
    told_addresses = {ip.address for ip in previous.ips}
    for address in record.addresses:
        if prefixed(address) not in told_addresses:
            yield f"prevResult has no address {prefixed(address)}"


def against_device(record: EndpointRecord, host: veth.End | None, pod: veth.End | None) -> Iterator[str]:
    """Both ends as the kernel has them."""
    if host is None or host.index != record.host_ifindex:
        yield f"{record.host_ifname} with index {record.host_ifindex} is gone from the node"
        return
    if pod is None or pod.peer != host.index:
        yield f"{record.ifname} in the sandbox is not the other end of {host.name}"
        return
    for end, name, mac in ((host, host.name, HOST_MAC), (pod, f"{pod.name} in the sandbox", record.pod_mac)):
        if not end.up:
            yield f"{name} is down"
        if end.mac != mac:
            yield f"{name} has mac {end.mac}, not {mac}"
        if end.mtu != record.mtu:
            yield f"{name} has mtu {end.mtu}, not {record.mtu}"


async def against_sandbox(previous: Result, record: EndpointRecord, sandbox: Sandbox, index: int) -> list[str]:
    """Addresses, and those default routes that no later plugin has changed in the result."""
    there, routes = await sandbox.addresses(index), await sandbox.routes(index)
    missing = [
        f"{record.ifname} in the sandbox has no address {prefixed(address)}"
        for address in record.addresses
        if prefixed(address) not in there
    ]
    ours = [(route.dst, route.gw) for route in previous.routes if route.gw in (GATEWAY4, GATEWAY6)]
    return missing + [f"the sandbox has no route to {dst} via {gw}" for dst, gw in ours if (dst, gw) not in routes]


async def against_routing(record: EndpointRecord, route: AsyncIPRoute) -> list[str]:
    """Where this node would send what is for the pod."""
    found = []
    for address in record.addresses:
        try:
            chosen = [message.get("oif") for message in await route.route("get", dst=address)]
        except NetlinkError:
            chosen = []
        if chosen != [record.host_ifindex]:
            found.append(f"the node has no route to {address} through {record.host_ifname}")
    return found
