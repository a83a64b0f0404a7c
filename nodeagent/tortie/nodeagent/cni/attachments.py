"""Sandboxes attached, detached, checked: the commands of CNI that change or read the kernel."""

from __future__ import annotations

import asyncio
import errno
import logging
import time

import msgspec
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from tortie.api.internal import Endpoint, veth_name
from tortie.nodeagent.cni import check, veth
from tortie.nodeagent.cni.errors import CniError, Code
from tortie.nodeagent.cni.request import Request, invalid
from tortie.nodeagent.cni.result import Result, result
from tortie.nodeagent.cni.sandbox import Sandbox
from tortie.nodeagent.cni.turns import Turns
from tortie.nodeagent.cni.veth import refused
from tortie.nodeagent.endpoints import EndpointRecord, EndpointStore
from tortie.nodeagent.network import EntryError, EntryMissing, Network

log = logging.getLogger(__name__)

ENTRY_WITHIN = 10.0
"""Seconds that ADD waits for the pod's addresses."""


class Attachments:
    """Serialised per sandbox interface, and within that per veth name: pods of the same name, one after another, share
    it. The name belongs to the sandbox that was attached last; a record claims the device of its name *and* ifindex."""

    def __init__(self, agent: Network, store: EndpointStore, route: AsyncIPRoute) -> None:
        self._agent = agent
        self._store = store
        self._route = route
        self._turn = Turns()

    async def add(self, request: Request, netns: int) -> Result:
        policy = request.config.policy_setup_timeout_seconds
        deadline = time.monotonic() + ENTRY_WITHIN + policy
        async with self._turn((request.container_id, request.ifname)):
            entry = await self._entry(request)
            async with self._turn(veth_name(request.namespace, request.name)):
                record = await self._attached(request, entry, netns)
            left = max(0.0, deadline - time.monotonic())
            if not await self._agent.converge(record, min(policy, left)):
                log.warning("endpoint is still PENDING", extra={"pod": f"{record.namespace}/{record.name}"})
        return result(record, request.config.cni_version, request.config.dns)

    async def delete(self, request: Request) -> None:
        """Succeeds for what is not there: the sandbox's namespace, the veth, the record."""
        async with self._turn((request.container_id, request.ifname)):
            record = self._store.get(request.container_id, request.ifname)
            if record:
                await self._clear(record.host_ifname, record)
            elif request.namespace and request.name:
                await self._clear(veth_name(request.namespace, request.name), None)

    async def check(self, request: Request, netns: int) -> None:
        """Once the agent says that it is OPEN, or has had as long as ADD would have waited for it."""
        async with self._turn((request.container_id, request.ifname)):
            record = self._store.get(request.container_id, request.ifname)
            if record is None:
                missing = f"no record of {request.ifname} in container {request.container_id}"
                raise CniError(Code.UNKNOWN_CONTAINER, missing)
            opened = await self._agent.converge(record, request.config.policy_setup_timeout_seconds)
            with refused(f"looking at {record.host_ifname} and {record.ifname}"):
                found = await self._differences(request, record, netns)
        if not opened:
            found.append("the endpoint is PENDING: the node agent has not been able to open it")
        if found:
            raise CniError(Code.CHECK_FAILED, f"pod {record.namespace}/{record.name}: {'; '.join(found)}")

    async def _differences(self, request: Request, record: EndpointRecord, netns: int) -> list[str]:
        previous = request.config.prev_result
        assert previous is not None, "decode() sees to it"
        found = list(check.against_result(previous, record))
        if (request.namespace, request.name) != (record.namespace, record.name):
            found.append(f"the record is of pod {record.namespace}/{record.name}")
        async with Sandbox(netns, request.netns) as sandbox:
            host = await veth.find(self._route, record.host_ifname)
            pod = await sandbox.interface(record.ifname)
            ends = list(check.against_device(record, host, pod))
            found += ends
            if pod and not ends:
                found += await check.against_sandbox(previous, record, sandbox, pod.index)
                found += await check.against_routing(record, self._route)
        return found

    async def collect(self, request: Request) -> None:
        """GC: everything goes that is not among the valid attachments. What cannot go does not keep the rest."""
        valid = request.config.valid_attachments
        if valid is msgspec.UNSET:
            raise CniError(Code.INVALID_CONFIG, "cni.dev/valid-attachments is missing: GC keeps what it names")
        keep = {(each.container_id, each.ifname) for each in valid or ()}
        stale = [(record.host_ifname, record) for record in self._store.all() if record.key not in keep]
        with refused("listing devices"):
            left = [(end.name, None) for end in await veth.host_ends(self._route) if self._left_over(end)]
        failures = []
        for name, record in (*stale, *left):
            try:
                await self._clear(name, record)
            except CniError as error:
                failures.append(str(error))
        if failures:
            raise CniError(Code.KERNEL_REFUSED, "; ".join(failures))

    async def _entry(self, request: Request) -> Endpoint:
        if reason := self._agent.ready():
            raise CniError(Code.TRY_AGAIN_LATER, reason)
        try:
            entry = await self._agent.entry(request.namespace, request.name, request.uid, ENTRY_WITHIN)
        except EntryMissing as error:
            raise CniError(Code.TRY_AGAIN_LATER, str(error)) from None
        except EntryError as error:
            raise CniError(Code.NO_ADDRESS, f"pod {request.namespace}/{request.name}: {error}") from None
        if not entry.addresses:
            raise CniError(Code.TRY_AGAIN_LATER, f"pod {request.namespace}/{request.name} has no addresses yet")
        return entry

    async def _attached(self, request: Request, entry: Endpoint, netns: int) -> EndpointRecord:
        """The record of an interface that is there with its addresses: the one that was attached already, or new."""
        self._refuse_second(request)
        name = veth_name(request.namespace, request.name)
        async with Sandbox(netns, request.netns) as sandbox:
            with refused(f"looking for {name} and {request.ifname}"):
                host = await veth.find(self._route, name)
                pod = await sandbox.interface(request.ifname)
            record = self._store.get(request.container_id, request.ifname)
            if record and host and pod and same_interface(record, host, pod) and same_pod(record, entry):
                with refused(f"configuring {request.ifname} in {request.netns}"):
                    await sandbox.configure(pod, entry.addresses)
                return self._kept(record, request.netns)
            await self._vacate(name, host)
            return await self._new(request, entry, sandbox)

    def _refuse_second(self, request: Request) -> None:
        for record in self._store.by_pod(request.namespace, request.name):
            if record.container_id == request.container_id and record.ifname != request.ifname:
                raise invalid("CNI_IFNAME", request.ifname, f"the sandbox is attached already, by {record.ifname}")

    def _kept(self, record: EndpointRecord, path: str) -> EndpointRecord:
        if record.netns != path:
            record = msgspec.structs.replace(record, netns=path)
            self._put(record)
        return record

    async def _vacate(self, name: str, host: veth.End | None) -> None:
        """Take the name from an earlier sandbox, or from an ADD that was cut short."""
        if host:
            with refused(f"removing the earlier {name}"):
                await veth.remove(self._route, host.index)
        for record in self._store.all():
            if record.host_ifname == name:
                self._store.remove(*record.key)

    async def _new(self, request: Request, entry: Endpoint, sandbox: Sandbox) -> EndpointRecord:
        name = veth_name(request.namespace, request.name)
        mtu, mac = self._agent.pod_mtu(), entry.attach.mac if entry.attach else ""
        with refused(f"making {name} with {request.ifname} in {request.netns}"):
            try:
                host = await veth.make(self._route, name, sandbox.netns, request.ifname, mtu=mtu, mac=mac)
            except NetlinkError as error:
                if error.code == errno.EEXIST:
                    raise invalid("CNI_IFNAME", request.ifname, "the sandbox has an interface of that name") from None
                raise
        try:
            with refused(f"configuring {request.ifname} in {request.netns}"):
                pod = await sandbox.interface(request.ifname)
                if pod is None:
                    raise OSError(errno.ENODEV, f"{request.ifname} went at once")
                await sandbox.configure(pod, entry.addresses)
            record = EndpointRecord(
                container_id=request.container_id,
                ifname=request.ifname,
                netns=request.netns,
                namespace=request.namespace,
                name=request.name,
                uid=entry.uid,
                host_ifname=name,
                host_ifindex=host.index,
                pod_mac=pod.mac,
                addresses=entry.addresses,
                mtu=mtu,
                created=time.time(),
            )
            self._put(record)
        except BaseException:
            await asyncio.shield(veth.remove(self._route, host.index))
            raise
        return record

    def _put(self, record: EndpointRecord) -> None:
        try:
            self._store.put(record)
        except OSError as error:
            raise CniError(Code.IO_FAILURE, f"writing the record of {record.host_ifname}: {error}") from error

    async def _clear(self, name: str, record: EndpointRecord | None) -> None:
        """Remove the device that `record` claims, or one that an ADD which was cut short left; a later sandbox may have
        taken the name over. The record goes last: one without a device is told of, a device without a record is not.
        """
        async with self._turn(name):
            with refused(f"removing {name}"):
                host = await veth.find(self._route, name)
                if host and ((record and claims(record, host)) or self._left_over(host)):
                    await veth.remove(self._route, host.index)
            if record and self._store.get(*record.key) is record:
                self._store.remove(*record.key)

    def _left_over(self, host: veth.End) -> bool:
        return host.half_made and not any(claims(record, host) for record in self._store.all())


def claims(record: EndpointRecord, host: veth.End) -> bool:
    return (record.host_ifname, record.host_ifindex) == (host.name, host.index)


def same_interface(record: EndpointRecord, host: veth.End, pod: veth.End) -> bool:
    """Whether these are the two ends that the record is about."""
    return claims(record, host) and (pod.peer, pod.mac) == (host.index, record.pod_mac)


def same_pod(record: EndpointRecord, entry: Endpoint) -> bool:
    return (record.uid, record.addresses) == (entry.uid, entry.addresses)
