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


KUBERNETES_NETWORK_POLICY = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", namespaced=True)
CLUSTER_NETWORK_POLICY = Resource(
    "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy", namespaced=False
)


def _calico(plural: str, kind: str, *, namespaced: bool = False) -> Resource:
    return Resource(calico.GROUP, calico.VERSION, plural, kind, namespaced)


IP_POOL = _calico("ippools", "IPPool")
IP_RESERVATION = _calico("ipreservations", "IPReservation")
IPAM_CONFIGURATION = _calico("ipamconfigurations", "IPAMConfiguration")
IPAM_BLOCK = _calico("ipamblocks", "IPAMBlock")
IPAM_HANDLE = _calico("ipamhandles", "IPAMHandle")
BLOCK_AFFINITY = _calico("blockaffinities", "BlockAffinity")
HOST_ENDPOINT = _calico("hostendpoints", "HostEndpoint")
FELIX_CONFIGURATION = _calico("felixconfigurations", "FelixConfiguration")
CLUSTER_INFORMATION = _calico("clusterinformations", "ClusterInformation")
HOST_ENDPOINT = _calico("hostendpoints", "HostEndpoint")
TIER = _calico("tiers", "Tier")
NETWORK_POLICY = _calico("networkpolicies", "NetworkPolicy", namespaced=True)
GLOBAL_NETWORK_POLICY = _calico("globalnetworkpolicies", "GlobalNetworkPolicy")
STAGED_NETWORK_POLICY = _calico("stagednetworkpolicies", "StagedNetworkPolicy", namespaced=True)
STAGED_GLOBAL_NETWORK_POLICY = _calico("stagedglobalnetworkpolicies", "StagedGlobalNetworkPolicy")
STAGED_KUBERNETES_NETWORK_POLICY = _calico(
    "stagedkubernetesnetworkpolicies", "StagedKubernetesNetworkPolicy", namespaced=True
)
NETWORK_SET = _calico("networksets", "NetworkSet", namespaced=True)
GLOBAL_NETWORK_SET = _calico("globalnetworksets", "GlobalNetworkSet")


def _internal(plural: str, kind: str) -> Resource:
    return Resource(internal.GROUP, internal.VERSION, plural, kind, namespaced=False)


NODE_STATES = _internal("nodestates", "NodeState")
NODE_PEERS = _internal("nodepeers", "NodePeer")
COMPILED_TIERS = _internal("compiledtiers", "CompiledTier")
COMPILED_POLICIES = _internal("compiledpolicies", "CompiledPolicy")
COMPILED_NETWORK_SETS = _internal("compilednetworksets", "CompiledNetworkSet")
POLICY_STATUSES = _internal("policystatuses", "PolicyStatus")
