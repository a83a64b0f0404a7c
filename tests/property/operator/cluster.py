"""Everybody but operators: users, controllers and machines, in a cluster so small that everything is always scarce."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import msgspec

from tortie.api.calico import (
    IPAMConfiguration,
    IPAMConfigurationSpec,
    IPPool,
    IPPoolSpec,
    IPReservation,
    IPReservationSpec,
)
from tortie.api.kubernetes import Namespace, Node, NodeAddress, NodeStatus, Pod, PodSpec, ServiceAccount
from tortie.api.meta import Metadata
from tortie.kube.resources import (
    IP_POOL,
    IP_RESERVATION,
    IPAM_CONFIGURATION,
    NAMESPACE,
    NODE,
    POD,
    SERVICE_ACCOUNT,
)
from tortie.operator.compile.peers import networked

from .apiserver import ApiServer
from .machines import Machine

replace = msgspec.structs.replace

NODES = ("n1", "n2", "n3")
NAMESPACES = ("blue", "green", "red")
PODS = tuple(f"p{number}" for number in range(7))
POOLS = {
    "four-a": IPPoolSpec(cidr="10.0.0.0/28", block_size=30, vxlan_mode="Always"),
    "four-b": IPPoolSpec(cidr="10.0.1.0/28", block_size=30, vxlan_mode="Always"),
    "four-red": IPPoolSpec(cidr="10.0.2.0/29", block_size=31, namespace_selector="colour == 'red'"),
    "four-zone": IPPoolSpec(cidr="10.0.3.0/29", block_size=31, node_selector="zone == 'a'"),
    "six": IPPoolSpec(cidr="fd00::/123", block_size=126),
}
RESERVED = ("10.0.0.0/30", "10.0.0.6/32", "10.0.1.1/32", "10.0.1.8/29", "fd00::2/128")
POD_GC = 40.0
"""Seconds after which the pods of a Node that is gone are deleted."""


class Cluster:
    def __init__(
        self,
        server: ApiServer,
        random: Random,
        lag: float,
        attaching: Callable[[str, str, tuple[str, ...]], None],
    ) -> None:
        self.server = server
        self.random = random
        self.lag = lag
        """Most seconds between an event and what a machine makes of it."""
        self._attaching = attaching
        self.machines: dict[str, Machine] = {}
        self._clock = 0
        self.actions: list[tuple[int, Callable[[], None]]] = [
            (30, self.schedule_pod),
            (10, self.end_pod),
            (14, self.delete_pod),
            (8, self.force_delete_pod),
            (4, self.relabel_pod),
            (3, self.delete_node),
            (6, self.add_node),
            (2, self.relabel_node),
            (2, self.add_or_delete_namespace),
            (2, self.relabel_namespace),
            (2, self.add_or_delete_account),
            (3, self.disable_or_enable_pool),
            (2, self.remove_pool),
            (4, self.add_pool),
            (4, self.reserve),
            (2, self.configure),
        ]

    def attached(self) -> list[tuple[str, str, tuple[str, ...]]]:
        return [(m.name, uid, held) for m in self.machines.values() for uid, held in m.attached.items()]

    def begin(self) -> None:
        for name in NAMESPACES:
            self.add_namespace(name)
            self.server.create(SERVICE_ACCOUNT, ServiceAccount(metadata=Metadata(name="default", namespace=name)))
        for name in self.random.sample(sorted(POOLS), self.random.randint(1, len(POOLS))):
            self.server.create(IP_POOL, IPPool(metadata=Metadata(name=name), spec=POOLS[name]))
        for _ in range(self.random.randint(1, len(NODES))):
            self.add_node()

    def act(self) -> str:
        """Something happens; returns what."""
        weights = [weight for weight, _ in self.actions]
        (action,) = self.random.choices([action for _, action in self.actions], weights)
        action()
        return action.__name__

    def _chosen(self, kind: str) -> list:  # type: ignore[type-arg]
        objects = list(self.server.kind(kind).values())
        return [self.random.choice(objects)] if objects else []

    def _time(self) -> str:
        """A creation time: only the order counts, and it has a resolution of a second, so that some are equal."""
        self._clock += self.random.randint(0, 1)
        return f"2026-01-01T{self._clock // 3600:02}:{self._clock // 60 % 60:02}:{self._clock % 60:02}Z"

    # --- pods -----------------------------------------------------------------------------------------------------

    def schedule_pod(self) -> None:
        namespace, name = self.random.choice(NAMESPACES), self.random.choice(PODS)
        nodes = sorted(self.server.kind("nodes"))
        key = f"{namespace}/{name}"
        if not nodes or namespace not in self.server.kind("namespaces") or key in self.server.kind("pods"):
            return
        metadata = Metadata(
            name=name,
            namespace=namespace,
            creation_timestamp=self._time(),
            labels={"app": self.random.choice("ab"), "pod-template-hash": str(self._clock)},
        )
        spec = PodSpec(
            node_name=self.random.choice(nodes),
            host_network=self.random.random() < 0.05,
            service_account_name=self.random.choice(("", "default", "extra")),
        )
        unbound = self.server.create(POD, Pod(metadata=metadata, spec=replace(spec, node_name="")))
        self.server.edit(POD, name, namespace, spec=spec)
        assert unbound is not None

    def end_pod(self) -> None:
        for pod in self._chosen("pods"):
            status = replace(pod.status, phase=self.random.choice(("Succeeded", "Failed")))
            self.server.edit(POD, pod.metadata.name, pod.metadata.namespace, status=status)

    def delete_pod(self) -> None:
        """Gracefully: its kubelet deletes the object once the pod has ended."""
        for pod in self._chosen("pods"):
            metadata = replace(pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
            self.server.edit(POD, pod.metadata.name, pod.metadata.namespace, metadata=metadata)

    def force_delete_pod(self) -> None:
        for pod in self._chosen("pods"):
            self.server.delete(POD, pod.metadata.name, pod.metadata.namespace)

    def relabel_pod(self) -> None:
        for pod in self._chosen("pods"):
            metadata = replace(pod.metadata, labels={**pod.metadata.labels, "app": self.random.choice("abc")})
            self.server.edit(POD, pod.metadata.name, pod.metadata.namespace, metadata=metadata)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def add_node(self) -> None:
        missing = [name for name in NODES if name not in self.server.kind("nodes")]
        if not missing:
            return
        name = self.random.choice(missing)
        addresses = (NodeAddress(type="InternalIP", address=f"192.0.2.{NODES.index(name) + 1}"),)
        labels = {"zone": self.random.choice("ab")}
        node = Node(metadata=Metadata(name=name, labels=labels), status=NodeStatus(addresses=addresses))
        self.server.create(NODE, node)
        self.machines[name] = Machine(self.server, name, self.random, self.lag, self._attaching)

    def delete_node(self) -> None:
        for node in self._chosen("nodes"):
            name = node.metadata.name
            self.server.delete(NODE, name)
            self.machines.pop(name).stop()
            asyncio.get_running_loop().call_later(POD_GC, self._collect, name)

    def _collect(self, node: str) -> None:
        """Pods of a Node that is gone, as the controller manager does."""
        if node not in self.server.kind("nodes"):
            for pod in [pod for pod in self.server.kind("pods").values() if pod.spec.node_name == node]:
                self.server.delete(POD, pod.metadata.name, pod.metadata.namespace)

    def relabel_node(self) -> None:
        for node in self._chosen("nodes"):
            labels = {"zone": self.random.choice("ab")}
            self.server.edit(NODE, node.metadata.name, metadata=replace(node.metadata, labels=labels))

    # --- namespaces -----------------------------------------------------------------------------------------------

    def add_namespace(self, name: str) -> None:
        labels = {"colour": name} if self.random.random() < 0.8 else {}
        self.server.create(NAMESPACE, Namespace(metadata=Metadata(name=name, labels=labels)))

    def add_or_delete_namespace(self) -> None:
        name = self.random.choice(NAMESPACES)
        if name not in self.server.kind("namespaces"):
            self.add_namespace(name)
        elif not any(pod.metadata.namespace == name for pod in self.server.kind("pods").values()):
            self.server.delete(NAMESPACE, name)

    def relabel_namespace(self) -> None:
        for namespace in self._chosen("namespaces"):
            labels = {"colour": self.random.choice(NAMESPACES)}
            self.server.edit(NAMESPACE, namespace.metadata.name, metadata=replace(namespace.metadata, labels=labels))

    def add_or_delete_account(self) -> None:
        namespace = self.random.choice(NAMESPACES)
        if f"{namespace}/extra" in self.server.kind("serviceaccounts"):
            self.server.delete(SERVICE_ACCOUNT, "extra", namespace)
        else:
            account = ServiceAccount(metadata=Metadata(name="extra", namespace=namespace, labels={"a": "b"}))
            self.server.create(SERVICE_ACCOUNT, account)

    # --- addresses ------------------------------------------------------------------------------------------------

    def disable_or_enable_pool(self) -> None:
        for pool in self._chosen("ippools"):
            spec = replace(pool.spec, disabled=not pool.spec.disabled)
            self.server.edit(IP_POOL, pool.metadata.name, spec=spec)

    def remove_pool(self) -> None:
        for pool in self._chosen("ippools"):
            self.server.delete(IP_POOL, pool.metadata.name)

    def add_pool(self) -> None:
        missing = [name for name in POOLS if name not in self.server.kind("ippools")]
        if missing:
            name = self.random.choice(missing)
            self.server.create(IP_POOL, IPPool(metadata=Metadata(name=name), spec=POOLS[name]))

    def reserve(self) -> None:
        """A reservation is made, changed or taken back."""
        spec = IPReservationSpec(reserved_cidrs=tuple(self.random.sample(RESERVED, self.random.randint(0, 2))))
        if "some" not in self.server.kind("ipreservations"):
            self.server.create(IP_RESERVATION, IPReservation(metadata=Metadata(name="some"), spec=spec))
        elif self.random.random() < 0.7:
            self.server.edit(IP_RESERVATION, "some", spec=spec)
        else:
            self.server.delete(IP_RESERVATION, "some")

    def configure(self) -> None:
        spec = IPAMConfigurationSpec(
            auto_allocate_blocks=self.random.random() < 0.8,
            max_blocks_per_host=self.random.choice((0, 0, 1, 2)),
            ip_cooldown_seconds=self.random.choice((0, 0, 5)),
        )
        if "default" not in self.server.kind("ipamconfigurations"):
            self.server.create(IPAM_CONFIGURATION, IPAMConfiguration(metadata=Metadata(name="default"), spec=spec))
        else:
            self.server.edit(IPAM_CONFIGURATION, "default", spec=spec)

    def schedulable(self) -> list[Pod]:
        """Pods that must have addresses or an error."""
        nodes, namespaces = self.server.kind("nodes"), self.server.kind("namespaces")
        pods = self.server.kind("pods").values()
        return [p for p in pods if networked(p) and p.spec.node_name in nodes and p.metadata.namespace in namespaces]
