"""From adopted objects and facts to what the kernel should hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tortie.api.internal import (
    Endpoint,
    NodePeer,
    NodePeerSpec,
    NodeState,
    NodeStateSpec,
    Pool,
    Settings,
    Tunnels,
    tunnel_mac,
)
from tortie.api.meta import Metadata
from tortie.nodeagent.desired import HOST_MAC, DatapathEndpoint, Desired, Route, Vxlan
from tortie.nodeagent.endpoints import EndpointRecord
from tortie.nodeagent.facts import Device, Facts, Uplink, observed
from tortie.nodeagent.plan import Planner, collapsed, confined

FACTS = Facts(
    uplink4=Uplink("eth0", "192.0.2.1", ("192.0.2.0/24",)),
    uplink6=Uplink("eth0", "2001:db8::1", ("2001:db8::/64",)),
    mtu=1500,
    workloads=frozenset({("cali1", 11), ("cali2", 12)}),
)
OWN = NodePeerSpec(
    addresses=("192.0.2.1", "2001:db8::1"),
    blocks=("10.0.0.0/26", "fd00::/122"),
    tunnels=Tunnels(vxlan4="10.0.0.1", vxlan6="fd00::1"),
    endpoints=(Endpoint(name="d/web", uid="u1", addresses=("10.0.0.2", "fd00::2")),),
)
NEAR = NodePeerSpec(
    addresses=("192.0.2.2", "2001:db8::2"),
    blocks=("10.0.0.64/26", "fd00::40/122"),
    tunnels=Tunnels(vxlan4="10.0.0.65", vxlan6="fd00::41"),
)
FAR = NodePeerSpec(
    addresses=("198.51.100.3", "2001:db8:1::3"),
    blocks=("10.0.0.128/26", "fd00::80/122"),
    tunnels=Tunnels(vxlan4="10.0.0.129", vxlan6="fd00::81"),
)
RECORD = EndpointRecord(
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/c1",
    namespace="d",
    name="web",
    uid="u1",
    host_ifname="cali1",
    host_ifindex=11,
    pod_mac="AA:BB:CC:00:00:01",
    addresses=("10.0.0.2", "fd00::2"),
    mtu=1430,
    created=1.0,
)


def pools(mode: str, **more: Any) -> tuple[Pool, ...]:
    return (
        Pool(cidr="10.0.0.0/16", vxlan_mode=mode, nat_outgoing=True, **more),
        Pool(cidr="fd00::/48", vxlan_mode=mode),
    )


def peer(name: str, spec: NodePeerSpec) -> NodePeer:
    return NodePeer(metadata=Metadata(name=name), spec=spec)


def plan(
    mode: str = "CrossSubnet",
    settings: Settings | None = None,
    own: NodePeerSpec = OWN,
    facts: Facts = FACTS,
    records: tuple[EndpointRecord, ...] = (RECORD,),
    **more: Any,
) -> Desired:
    state = NodeState(
        metadata=Metadata(name="a"), spec=NodeStateSpec(settings=settings or Settings(), pools=pools(mode, **more))
    )
    peers = {"a": peer("a", own), "b": peer("b", NEAR), "c": peer("c", FAR)}
    return Planner("a").desired(state, peers, facts, records)


def route(desired: Desired, block: str) -> Route:
    return desired.routes.routes[block, 1024]


def test_cross_subnet_encapsulates_only_between_subnets() -> None:
    desired = plan("CrossSubnet")
    assert route(desired, "10.0.0.64/26") == Route("unicast", "eth0", "192.0.2.2")
    assert route(desired, "10.0.0.128/26") == Route("unicast", "vxlan.calico", "10.0.0.129", onlink=True)
    assert route(desired, "fd00::40/122") == Route("unicast", "eth0", "2001:db8::2")
    assert route(desired, "fd00::80/122") == Route("unicast", "vxlan-v6.calico", "fd00::81", onlink=True)
    assert desired.problems == ()


def test_always_encapsulates_and_never_does_not() -> None:
    always = plan("Always")
    assert route(always, "10.0.0.64/26").device == "vxlan.calico"
    never = plan("Never")
    assert route(never, "10.0.0.64/26") == Route("unicast", "eth0", "192.0.2.2")
    assert ("10.0.0.128/26", 1024) not in never.routes.routes
    assert {p.item for p in never.problems} == {"route/10.0.0.128/26", "route/fd00::80/122"}
    assert "vxlan.calico" not in never.links.links
    assert never.neighbours.neighbours == {}


def test_tunnel_devices_and_entries() -> None:
    desired = plan(settings=Settings(vxlan_vni=7, vxlan_port=4790))
    four, six = desired.links.links["vxlan.calico"], desired.links.links["vxlan-v6.calico"]
    assert (four.mac, four.mtu, four.addresses) == (tunnel_mac("a"), 1450, {"10.0.0.1/32"})
    assert four.vxlan == Vxlan(7, 4790, "192.0.2.1", "eth0")
    assert (six.mtu, six.addresses, six.vxlan) == (1430, {"fd00::1/128"}, Vxlan(7, 4790, "2001:db8::1", "eth0"))
    assert desired.neighbours.neighbours["vxlan.calico", "10.0.0.129"] == tunnel_mac("c")
    assert desired.neighbours.forwarding["vxlan.calico", tunnel_mac("c")] == "198.51.100.3"
    assert desired.neighbours.forwarding["vxlan-v6.calico", tunnel_mac("c")] == "2001:db8:1::3"


@pytest.mark.parametrize(
    ("mode", "settings", "mtu"),
    [
        ("CrossSubnet", Settings(), 1430),
        ("CrossSubnet", Settings(ipv6_support=False), 1450),
        ("Never", Settings(), 1500),
        ("Always", Settings(vxlan_mtu=1400), 1400),
    ],
)
def test_pod_mtu_is_the_smallest_over_the_encapsulations(mode: str, settings: Settings, mtu: int) -> None:
    assert plan(mode, settings).pod_mtu == mtu


def test_local_pods_and_the_rest_of_own_blocks() -> None:
    desired = plan()
    assert route(desired, "10.0.0.0/26") == Route("unreachable")
    assert route(desired, "fd00::/122") == Route("unreachable")
    assert route(desired, "10.0.0.2/32") == Route("unicast", "cali1", link_scope=True)
    assert route(desired, "fd00::2/128") == Route("unicast", "cali1")
    link = desired.links.links["cali1"]
    assert (link.mac, link.mtu, link.vxlan) == (HOST_MAC, 1430, None)
    assert link.addresses == {"fe80::ecee:eeff:feee:eeee/64"}
    assert desired.links.sysctls["net/ipv4/conf/cali1/proxy_arp"] == "1"
    assert desired.links.sysctls["net/ipv6/conf/cali1/accept_ra"] == "0"
    assert desired.datapath.endpoints == {DatapathEndpoint("cali1", "OPEN", "10.0.0.2", "fd00::2", "aa:bb:cc:00:00:01")}
    assert set(desired.datapath.node_addresses) == {"192.0.2.1", "2001:db8::1", "10.0.0.1", "fd00::1"}


@pytest.mark.parametrize(
    "entry",
    [
        (),
        (Endpoint(name="d/web", uid="other", addresses=("10.0.0.9",)),),
        (Endpoint(name="d/web", uid="u1", addresses=("10.0.0.9",)),),
        (Endpoint(name="d/web", uid="u1", error="pool is full"),),
    ],
)
def test_an_endpoint_without_its_own_adopted_entry_is_pending(entry: tuple[Endpoint, ...]) -> None:
    desired = plan(own=msgspec.structs.replace(OWN, endpoints=entry))
    assert [e.state for e in desired.datapath.endpoints] == ["PENDING"]
    assert route(desired, "10.0.0.2/32").device == "cali1"  # its node's probes reach it


def test_an_address_is_routed_to_whom_the_entry_names() -> None:
    """The sandbox of an ended pod is still there; its address has been given to another."""
    later = msgspec.structs.replace(
        RECORD, container_id="c2", name="next", uid="u2", host_ifname="cali2", host_ifindex=12, created=0.5
    )
    own = msgspec.structs.replace(OWN, endpoints=(Endpoint(name="d/next", uid="u2", addresses=RECORD.addresses),))
    desired = plan(own=own, records=(RECORD, later))
    assert route(desired, "10.0.0.2/32").device == "cali2"
    assert {e.ifname: e.state for e in desired.datapath.endpoints} == {"cali1": "PENDING", "cali2": "OPEN"}


def test_of_two_sandboxes_of_one_pod_name_the_one_that_has_the_device_counts() -> None:
    """A late DEL: the record of the earlier pod names the same device by another index."""
    earlier = msgspec.structs.replace(RECORD, container_id="c0", uid="u0", host_ifindex=9, created=0.1)
    desired = plan(records=(earlier, RECORD))
    assert [e.state for e in desired.datapath.endpoints] == ["OPEN"]
    assert [p.item for p in desired.problems] == ["endpoint/d/web"]


def test_a_record_without_its_device_gets_nothing_and_is_told() -> None:
    gone = msgspec.structs.replace(RECORD, host_ifindex=99)
    desired = plan(records=(gone,))
    assert ("10.0.0.2/32", 1024) not in desired.routes.routes
    assert desired.datapath.endpoints == frozenset()
    assert [p.item for p in desired.problems] == ["endpoint/d/web"]


def test_a_block_of_one_address_is_the_pods_route() -> None:
    own = msgspec.structs.replace(OWN, blocks=("10.0.0.2/32",))
    assert route(plan(own=own), "10.0.0.2/32").kind == "unicast"


def test_settings_of_routes() -> None:
    desired = plan(settings=Settings(device_route_protocol=3, ipv4_route_priority=7, ipv6_route_priority=0))
    assert desired.routes.protocol == 80
    assert ("10.0.0.64/26", 7) in desired.routes.routes
    assert ("fd00::40/122", 1024) in desired.routes.routes
    assert plan(settings=Settings(device_route_protocol=90)).routes.protocol == 90


def test_without_ipv6_support_there_is_no_ipv6() -> None:
    desired = plan(settings=Settings(ipv6_support=False))
    assert not any(":" in key[0] for key in desired.routes.routes)
    assert "vxlan-v6.calico" not in desired.links.links
    assert not any("ipv6" in path for path in desired.links.sysctls)


def test_a_kernel_without_ipv6_is_told() -> None:
    desired = plan(facts=replace(FACTS, ipv6=False))
    assert not any(":" in key[0] for key in desired.routes.routes)
    assert "ipv6" in {p.item for p in desired.problems}


def test_nat_table() -> None:
    desired = plan()
    assert desired.table.nat_sources == ("10.0.0.0/16",)
    assert desired.table.nat_exclusions == ("10.0.0.0/16", "fd00::/48")
    assert desired.table.pods == ("10.0.0.0/16", "fd00::/48")
    hosts = plan(settings=Settings(nat_outgoing_exclusions="IPPoolsAndHostIPs", nat_port_range="1000:2000"))
    assert "192.0.2.1/32" in hosts.table.nat_exclusions or "192.0.2.0/30" in hosts.table.nat_exclusions
    assert "198.51.100.3/32" in hosts.table.nat_exclusions
    assert hosts.table.nat_ports == "1000-2000"
    assert plan(settings=Settings(default_endpoint_to_host_action="Drop")).table.drop_to_host


def test_ipip_is_told() -> None:
    assert "pool/10.0.0.0/16" in {p.item for p in plan(ipip_mode="Always").problems}


def test_collapsed_is_disjoint() -> None:
    assert collapsed(["10.0.0.0/8", "10.1.0.0/16", "fd00::/64", "fd00::1", "10.1.2.3"]) == ("10.0.0.0/8", "fd00::/64")


def test_a_released_block_is_confirmed_when_nothing_uses_it() -> None:
    assert confined(("10.0.0.0/26", "10.0.0.64/26", "fd00::/122"), (RECORD,)) == ("10.0.0.64/26",)


def test_a_pod_elsewhere_costs_no_new_part() -> None:
    state = NodeState(metadata=Metadata(name="a"), spec=NodeStateSpec(pools=pools("CrossSubnet")))
    peers = {"a": peer("a", OWN), "b": peer("b", NEAR), "c": peer("c", FAR)}
    planner = Planner("a")
    before = planner.desired(state, peers, FACTS, ())
    peers["b"] = peer("b", msgspec.structs.replace(NEAR, endpoints=(Endpoint(name="d/x", uid="x"),)))
    after = planner.desired(state, peers, FACTS, ())
    assert after == before
    assert after.routes.routes["10.0.0.64/26", 1024] is before.routes.routes["10.0.0.64/26", 1024]


def test_facts_from_devices() -> None:
    devices = {
        1: Device(1, "lo", "", "", 65536, True),
        2: Device(2, "eth0", "", "", 9000, True),
        3: Device(3, "eth1", "", "", 1400, True),
        4: Device(4, "eth2", "", "", 1300, False),
        11: Device(11, "cali1", "veth", "", 1200, True),
    }
    addresses = {
        1: frozenset({"127.0.0.1/8"}),
        2: frozenset({"192.0.2.1/24", "203.0.113.1/28", "2001:db8::1/64", "fe80::1/64"}),
    }
    facts = observed(devices, addresses, ("192.0.2.1", "2001:db8::1"), Settings().mtu_iface_pattern)
    assert facts.uplink4 == Uplink("eth0", "192.0.2.1", ("192.0.2.0/24", "203.0.113.0/28"))
    assert facts.uplink6 == Uplink("eth0", "2001:db8::1", ("2001:db8::/64",))
    assert facts.mtu == 1400
    assert facts.workloads == {("cali1", 11)}
