"""Nodes as the address protocol sees them: a kubelet that starts and ends pods, an agent that adopts and reports."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from random import Random
from typing import Any

import msgspec

from tortie.api.internal import NodePeer, NodePeerSpec, NodeState
from tortie.api.kubernetes import Pod, PodIP
from tortie.kube.client import NotFound
from tortie.kube.resources import NODE_STATES, POD
from tortie.operator.compile.peers import networked

from .apiserver import ApiServer

replace = msgspec.structs.replace


class Machine:
    """Events of its three watches come in order within a kind, each some time after it happened."""

    def __init__(
        self,
        server: ApiServer,
        name: str,
        random: Random,
        lag: float,
        attaching: Callable[[str, str, tuple[str, ...]], None],
    ) -> None:
        """`attaching(node, uid, addresses)` is called before a pod's interface gets its addresses."""
        self.server = server
        self.name = name
        self.lag = lag
        self.attached: dict[str, tuple[str, ...]] = {}
        """UID of each pod that has an interface → its addresses."""
        self._random = random
        self._attaching = attaching
        self._peer = NodePeerSpec()
        self._peers_seen = 0
        """Version up to which NodePeers are known, while more are on their way."""
        self._state: NodeState | None = None
        self._newest_state: NodeState | None = None
        """Known, but perhaps not adopted yet."""
        self._pods: dict[str, Pod] = {}
        self._queues: dict[str, deque[tuple[Any, int]]] = {"pods": deque(), "nodepeers": deque(), "nodestates": deque()}
        self._reported: object = None
        self._reporting = False
        self.off = False
        server.listeners.append(self._happened)
        for plural in self._queues:
            for obj in server.kind(plural).values():
                self._happened(plural, None, obj)

    def stop(self) -> None:
        """The Node object is gone: what the machine does from now on is nobody's business."""
        self.off = True
        self.server.listeners.remove(self._happened)

    def _later(self, what: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(self.lag * self._random.random(), what, *arguments)

    def _eventually(self, what: Callable[..., None], *arguments: Any) -> None:
        """What takes longer now and then: processes that do not end, a runtime that is busy."""
        slow = self._random.random() < 0.2
        delay = self._random.expovariate(0.5) if slow else self.lag * self._random.random()
        asyncio.get_running_loop().call_later(delay, what, *arguments)

    # --- watches --------------------------------------------------------------------------------------------------

    def _happened(self, plural: str, before: Any, after: Any) -> None:
        if plural not in self._queues:
            return
        obj = after or before
        mine = obj.spec.node_name == self.name if plural == "pods" else obj.metadata.name == self.name
        if mine:
            queue = self._queues[plural]
            queue.append((after if after is not None else before.metadata.uid, self.server.version))
            if len(queue) == 1:
                self._later(self._take, plural)

    def _take(self, plural: str) -> None:
        if self.off:
            return
        queue = self._queues[plural]
        obj, version = queue.popleft()
        if queue:
            self._later(self._take, plural)
        match obj:
            case NodePeer():
                self._peer, self._peers_seen = obj.spec, version
            case NodeState():
                self._newest_state = obj
            case Pod():
                self._pods[obj.metadata.uid] = obj
                if not networked(obj) or obj.metadata.deletion_timestamp:
                    self._eventually(self._detach, obj.metadata.uid)
            case str() if plural == "pods":
                self._pods.pop(obj, None)
                self._eventually(self._detach, obj)
            case str() if plural == "nodepeers":
                self._peer, self._peers_seen = NodePeerSpec(), version
            case str():
                self._newest_state = self._state = None
        self._adopt()
        for endpoint in self._peer.endpoints:
            if endpoint.addresses and endpoint.uid in self._pods and endpoint.uid not in self.attached:
                self._eventually(self._attach, endpoint.uid)

    def _adopt(self) -> None:
        """A NodeState once the NodePeers that its stamp names are known (rule 4)."""
        newest = self._newest_state
        seen = self._peers_seen if self._queues["nodepeers"] else self.server.version
        if newest is not None and newest.spec.after.get("nodepeers", 0) <= seen:
            self._state = newest
        if not self._reporting and self._state is not None:
            self._reporting = True
            self._later(self._report)

    # --- what it does ---------------------------------------------------------------------------------------------

    def _attach(self, uid: str) -> None:
        """CNI ADD: a pod that is being started gets what the adopted entry says, also if it was deleted since."""
        entry = next((e for e in self._peer.endpoints if e.uid == uid and e.addresses), None)
        pod = self._pods.get(uid)
        if self.off or entry is None or pod is None or uid in self.attached or not networked(pod):
            return
        self._attaching(self.name, uid, entry.addresses)
        self.attached[uid] = entry.addresses
        self._eventually(self._running, pod.metadata.namespace, pod.metadata.name, uid)

    def _running(self, namespace: str, name: str, uid: str) -> None:
        pod = self.server.kind("pods").get(f"{namespace}/{name}")
        if not self.off and pod is not None and pod.metadata.uid == uid and not pod.ended and uid in self.attached:
            ips = tuple(PodIP(ip=address) for address in self.attached[uid])
            self.server.edit(POD, name, namespace, status=replace(pod.status, phase="Running", pod_ips=ips))

    def _detach(self, uid: str) -> None:
        if self.off:
            return
        pod = self._pods.get(uid)
        if pod is not None and networked(pod) and not pod.metadata.deletion_timestamp:
            return
        self.attached.pop(uid, None)
        if pod is not None and pod.metadata.deletion_timestamp:
            current = self.server.kind("pods").get(pod.metadata.key)
            if current is not None and current.metadata.uid == uid:
                self.server.delete(POD, pod.metadata.name, pod.metadata.namespace, uid)
        self._adopt()

    def _report(self) -> None:
        self._reporting = False
        if self.off or self._state is None:
            return
        used = [ip_address(address) for addresses in self.attached.values() for address in addresses]
        releasing = self._state.spec.releasing
        released = tuple(cidr for cidr in releasing if not any(address in ip_network(cidr) for address in used))
        said = self._state.metadata.uid, self._state.metadata.generation, released
        if said == self._reported:
            return
        try:
            state: NodeState = self.server.get(NODE_STATES, self.name)
        except NotFound:
            return
        status = replace(state.status, generation=self._state.metadata.generation, released=released)
        self.server.edit(NODE_STATES, self.name, status=status)
        self._reported = said
