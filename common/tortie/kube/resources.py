"""Where the API server serves each kind that Tortie reads or writes."""

from __future__ import annotations

from tortie.api import calico, internal
from tortie.kube.client import Resource

POD = Resource("", "v1", "pods", "Pod", namespaced=True)
NODE = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount", namespaced=True)
SERVICE = Resource("", "v1", "services", "Service", namespaced=True)
CONFIG_MAP = Resource("", "v1", "configmaps", "ConfigMap", namespaced=True)
EVENT = Resource("", "v1", "events", "Event", namespaced=True)
LEASE = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
ENDPOINT_SLICE = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", namespaced=True)


def _calico(plural: str, kind: str) -> Resource:
    return Resource(calico.GROUP, calico.VERSION, plural, kind, namespaced=False)


IP_POOL = _calico("ippools", "IPPool")
IP_RESERVATION = _calico("ipreservations", "IPReservation")
IPAM_CONFIGURATION = _calico("ipamconfigurations", "IPAMConfiguration")
IPAM_BLOCK = _calico("ipamblocks", "IPAMBlock")
IPAM_HANDLE = _calico("ipamhandles", "IPAMHandle")
BLOCK_AFFINITY = _calico("blockaffinities", "BlockAffinity")
FELIX_CONFIGURATION = _calico("felixconfigurations", "FelixConfiguration")
CLUSTER_INFORMATION = _calico("clusterinformations", "ClusterInformation")


def _internal(plural: str, kind: str) -> Resource:
    return Resource(internal.GROUP, internal.VERSION, plural, kind, namespaced=False)


NODE_STATES = _internal("nodestates", "NodeState")
NODE_PEERS = _internal("nodepeers", "NodePeer")
COMPILED_TIERS = _internal("compiledtiers", "CompiledTier")
COMPILED_POLICIES = _internal("compiledpolicies", "CompiledPolicy")
COMPILED_NETWORK_SETS = _internal("compilednetworksets", "CompiledNetworkSet")
POLICY_STATUSES = _internal("policystatuses", "PolicyStatus")
