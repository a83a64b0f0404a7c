"""What rules match: sets, services, named ports, protocols, and profiles of workloads that are no pods."""

from __future__ import annotations

from .manifests import BASE, cluster, steps, verdict


def test_network_sets_and_inherited_labels() -> None:
    text = """---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: bad, labels: {list: bad}},
 spec: {nets: [203.0.113.7/24, '2001:db8:bad::/48']}}
---
{apiVersion: projectcalico.org/v3, kind: NetworkSet, metadata: {name: partner, namespace: shop, labels: {app: web}},
 spec: {nets: [198.51.100.4]}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec:
  selector: app == 'db'
  ingress:
  - {action: Deny, source: {selector: list == 'bad', namespaceSelector: global()}}
  - {action: Allow, source: {namespaceSelector: env == 'prod'}}
  - {action: Deny, source: {selector: all()}}
  - {action: Allow, source: {notSelector: has(app)}}
"""
    found = cluster(BASE + text)
    assert steps(found, "ip:203.0.113.200", "pod:shop/db", port=1) == ["default GlobalNetworkPolicy p 0 Deny"]
    assert steps(found, "ip:2001:db8:bad::1", "pod:shop/db", port=1) == ["default GlobalNetworkPolicy p 0 Deny"]
    assert steps(found, "ip:198.51.100.4", "pod:shop/db", port=1) == ["default GlobalNetworkPolicy p 1 Allow"]
    assert steps(found, "pod:shop/web", "pod:shop/db", port=1) == ["default GlobalNetworkPolicy p 1 Allow"]
    assert steps(found, "pod:lab/probe", "pod:shop/db", port=1) == ["default GlobalNetworkPolicy p 2 Deny"]
    assert steps(found, "ip:192.0.2.99", "pod:shop/db", port=1) == ["default GlobalNetworkPolicy p 3 Allow"]


def test_address_and_named_port_must_be_of_the_same_owner() -> None:
    """As while a virtual machine moves: two pods have one address."""
    text = """---
apiVersion: v1
kind: Pod
metadata: {name: moved, namespace: lab, labels: {app: other}}
spec: {nodeName: n1, containers: [{ports: [{name: sql, containerPort: 3306}]}]}
status: {podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec: {selector: app == 'web', types: [Egress], egress: [
       {action: Allow, protocol: TCP, destination: {selector: app == 'db', ports: [sql]}},
       {action: Deny, protocol: TCP, destination: {selector: app == 'db', notPorts: [sql]}},
       {action: Allow, protocol: TCP, destination: {ports: [sql]}}]}
"""
    found = cluster(BASE + text)
    rule = "default GlobalNetworkPolicy p {}".format
    assert steps(found, "pod:shop/web", "ip:10.0.0.2", "egress", port=5432) == [rule("0 Allow")]
    assert steps(found, "pod:shop/web", "ip:10.0.0.2", "egress", port=3306) == [rule("1 Deny")]


def test_services_in_rules_are_their_backends() -> None:
    text = """---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}},
 endpoints: [{addresses: [10.0.0.2], conditions: {ready: false}}], ports: [{name: sql, port: 5432, protocol: TCP}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: null, ports: null,
 metadata: {name: db-2, namespace: shop, labels: {kubernetes.io/service-name: db}}}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  types: [Ingress, Egress]
  egress: [{action: Allow, destination: {services: {name: db}}}]
  ingress: [{action: Allow, source: {services: {name: db}}}]
"""
    found = cluster(BASE + text)
    assert verdict(found, "pod:shop/web", "pod:shop/db", port=5432) == ("allow", "deny")
    assert verdict(found, "pod:shop/web", "pod:shop/db", port=5433) == ("deny", "deny")
    assert verdict(found, "pod:shop/web", "pod:shop/db", port=5432, protocol="UDP") == ("deny", "deny")
    assert verdict(found, "pod:shop/db", "pod:shop/web", port=1) == ("deny", "allow")


def test_icmp_protocol_numbers_and_ip_versions() -> None:
    text = """---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  selector: app == 'db'
  ingress:
  - {action: Allow, protocol: ICMP, icmp: {type: 8}}
  - {action: Allow, protocol: ICMPv6, icmp: {type: 128, code: 0}}
  - {action: Allow, protocol: 47}
  - {action: Allow, ipVersion: 6, notProtocol: TCP, notICMP: {type: 1}}
"""
    found = cluster(BASE + text)

    def allowed(source: str, **fields: object) -> bool:
        return verdict(found, source, "pod:shop/db", **fields)[1] == "allow"

    assert allowed("pod:lab/probe", protocol="ICMP")
    assert allowed("pod:lab/probe", protocol="icmp", icmp={"type": 8, "code": 3})
    assert not allowed("pod:lab/probe", protocol="ICMP", icmp={"type": 3})
    assert allowed("ip:fd00::9", protocol="ICMPv6")
    assert allowed("ip:fd00::9", protocol=58, icmp={"type": 128, "code": 1})
    assert not allowed("ip:fd00::9", protocol=58, icmp={"type": 1})
    assert allowed("pod:lab/probe", protocol=47)
    assert not allowed("pod:lab/probe", protocol=50)
    assert allowed("ip:fd00::9", protocol=50)
    assert not allowed("ip:fd00::9", protocol="TCP", port=80)


def test_profiles_and_workloads_as_calicoctl_prints_them() -> None:
    text = """---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: vm}
spec:
  ingress: [{action: Log}, {action: Allow, source: {selector: "role == 'vm'"}}, {action: Pass, protocol: UDP}]
  labelsToApply: {role: vm, app: none}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-openstack-a-eth0, namespace: lab, labels: {app: own, pcns.env: prod}}
spec: {node: n1, orchestrator: openstack, workload: a, ipNetworks: [10.0.0.8/32], profiles: [vm]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-openstack-b-eth0, namespace: lab}
spec: {node: n1, workload: b, ipNetworks: [10.0.0.9/32], profiles: [vm, gone]}
"""
    found = cluster(BASE + text)
    assert found.workloads["lab/a"].labels == {"role": "vm", "app": "own"}
    logged = "Profile vm 0 Log"
    assert steps(found, "pod:lab/b", "pod:lab/a", port=1) == [logged, "Profile vm 1 Allow"]
    assert steps(found, "pod:lab/probe", "pod:lab/a", port=1) == [logged, "Profile no-profile-match Deny"]
    assert steps(found, "pod:lab/probe", "pod:lab/a", port=1, protocol="UDP") == [logged, "Profile vm 2 Deny"]
    assert steps(found, "pod:lab/probe", "pod:lab/b", port=1) == [logged, "Profile gone no-profile-match Deny"]
    assert steps(found, "pod:lab/a", "pod:lab/b", "egress", port=1) == ["Profile no-profile-match Deny"]
