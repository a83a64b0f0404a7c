"""What all nodes must know of one node, and what it must do itself: by the world of now alone."""

from __future__ import annotations

import random

import msgspec
import pytest

from tortie.api.calico import IPPool
from tortie.api.felix import FelixConfiguration, FelixConfigurationSpec
from tortie.api.internal import NamedPort, NodePeerSpec, Tunnels
from tortie.api.kubernetes import Container, ContainerPort, Pod
from tortie.operator.compile.nodes import state
from tortie.operator.compile.peers import NOISE, label_set, networked, peer
from tortie.operator.ipam.assignment import Assignment

from .things import meta, node, pod, pool


def assignment(*pods: Pod, **facts: object) -> Assignment:
    """An address each."""
    addresses = {each.metadata.uid: (f"10.0.0.{number}",) for number, each in enumerate(pods)}
    return Assignment(addresses=addresses, **facts)  # type: ignore[arg-type]


def compiled(*pods: Pod, named: tuple[str, ...] = ()) -> NodePeerSpec:
    return peer(node(ips=["192.0.2.1"]), pods, assignment(*pods), ["10.0.0.0/26"], named)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_ended_unscheduled_and_host_network_pods_are_no_workload_endpoints(phase: str) -> None:
    assert networked(pod("a"))
    assert networked(pod("a", phase="Running"))
    assert not networked(pod("a", phase=phase))
    assert not networked(pod("a", node=""))
    assert not networked(pod("a", host_network=True))


def test_pods_with_the_same_labels_share_a_label_set() -> None:
    spec = compiled(pod("a", labels={"app": "web"}), pod("b", labels={"app": "web"}), pod("c", labels={"app": "db"}))
    assert [labels.labels for labels in spec.label_sets] == [{"app": "db"}, {"app": "web"}]
    assert [endpoint.labels for endpoint in spec.endpoints] == [1, 1, 0]


def test_namespace_and_account_tell_label_sets_apart() -> None:
    spec = compiled(
        pod("a", labels={"app": "web"}),
        pod("b", labels={"app": "web"}, account="other"),
        pod("c", labels={"app": "web"}, namespace="shop"),
    )
    assert [(s.namespace, s.service_account) for s in spec.label_sets] == [
        ("default", "default"),
        ("default", "other"),
        ("shop", "default"),
    ]


def test_a_pod_without_an_account_has_the_default_one() -> None:
    assert label_set(pod("a", account=""), ()).service_account == "default"


@pytest.mark.parametrize("key", sorted(NOISE))
def test_noise_is_left_out_unless_a_selector_names_it(key: str) -> None:
    noisy = pod("a", labels={"app": "web", key: "4711"})
    assert label_set(noisy, ()).labels == {"app": "web"}
    assert label_set(noisy, {key}).labels == {"app": "web", key: "4711"}


def test_noise_makes_no_label_set_of_its_own() -> None:
    pods = [pod(f"p{number}", labels={"app": "web", "pod-template-hash": str(number)}) for number in range(20)]
    assert len(compiled(*pods).label_sets) == 1
    assert len(compiled(*pods, named=("pod-template-hash",)).label_sets) == 20


@pytest.mark.parametrize("seed", range(20))
def test_tables_do_not_depend_on_the_order_in_which_pods_and_labels_came(seed: int) -> None:
    rng = random.Random(seed)
    pods = [
        pod(f"p{number}", namespace=rng.choice("xy"), labels={key: rng.choice("12") for key in "abc"})
        for number in range(12)
    ]
    shuffled = [
        pod(p.metadata.name, namespace=p.metadata.namespace, labels=dict(reversed(p.metadata.labels.items())))
        for p in pods
    ]
    rng.shuffle(shuffled)
    given_out = assignment(*pods)
    one = peer(node(), pods, given_out, ["10.0.0.0/26", "10.0.1.0/26"])
    other = peer(node(), shuffled, given_out, ["10.0.1.0/26", "10.0.0.0/26"])
    assert one == other
    assert [list(s.labels) for s in one.label_sets] == [list(s.labels) for s in other.label_sets]


def test_an_entry_says_what_the_pod_got_or_why_it_got_nothing() -> None:
    got, refused, waits = pod("a"), pod("b"), pod("c")
    given_out = Assignment(addresses={"uid-a": ("10.0.0.1", "fd00::1")}, errors={"uid-b": "full"})
    spec = peer(node(), [got, refused, waits], given_out, [])
    assert [(e.name, e.addresses, e.error) for e in spec.endpoints] == [
        ("default/a", ("10.0.0.1", "fd00::1"), ""),
        ("default/b", (), "full"),
    ]


def test_two_pods_of_one_name_have_two_entries() -> None:
    """One ends while its successor begins."""
    assert [e.uid for e in compiled(pod("a", uid="2"), pod("a", uid="1")).endpoints] == ["1", "2"]


def test_named_ports_of_containers_and_sidecars_are_told() -> None:
    ports = [ContainerPort(container_port=80, name="http"), ContainerPort(container_port=81)]
    sidecar = Container(ports=(ContainerPort(container_port=53, name="dns", protocol="UDP"),), restart_policy="Always")
    setup = Container(ports=(ContainerPort(container_port=99, name="setup"),))
    web = pod("a", ports=ports)
    spec = msgspec.structs.replace(web.spec, init_containers=(setup, sidecar))
    (entry,) = compiled(msgspec.structs.replace(web, spec=spec)).endpoints
    assert entry.ports == (NamedPort(name="http", port=80), NamedPort(name="dns", port=53, protocol="UDP"))


def test_node_addresses_are_ipv4_first_each_family_in_the_nodes_order() -> None:
    made = node(ips=["fd00::2", "192.0.2.9", "fd00::1", "192.0.2.1"])
    spec = peer(made, [], Assignment(tunnels=Tunnels(vxlan4="10.0.0.0")), ["10.0.1.0/26", "10.0.0.0/26"])
    assert spec.addresses == ("192.0.2.9", "192.0.2.1", "fd00::2", "fd00::1")
    assert spec.blocks == ("10.0.0.0/26", "10.0.1.0/26")
    assert spec.tunnels.vxlan4 == "10.0.0.0"
    assert spec.uid == "uid-n1"


# --- NodeState ----------------------------------------------------------------------------------------------------


def test_a_node_state_does_not_depend_on_the_order_of_pools() -> None:
    pools: list[IPPool] = [pool("b", "10.1.0.0/16", vxlan_mode="Always"), pool("a", "10.0.0.0/16", nat_outgoing=True)]
    one, _ = state(node(), pools, [], ["10.0.1.0/26", "10.0.0.0/26"])
    other, _ = state(node(), reversed(pools), [], ["10.0.0.0/26", "10.0.1.0/26"])
    assert one == other
    assert [each.cidr for each in one.pools] == ["10.0.0.0/16", "10.1.0.0/16"]
    assert (one.pools[0].nat_outgoing, one.pools[1].vxlan_mode) == (True, "Always")
    assert one.releasing == ("10.0.0.0/26", "10.0.1.0/26")


def test_a_node_state_has_the_settings_of_its_node_and_what_of_them_means_nothing_is_told() -> None:
    own = FelixConfiguration(metadata=meta("node.n1"), spec=FelixConfigurationSpec(vxlan_port=4790))
    odd = FelixConfiguration(metadata=meta("default"), spec=FelixConfigurationSpec(vxlan_port=4791, nat_port_range="x"))
    spec, warnings = state(node(), [], [odd, own], [])
    assert spec.settings.vxlan_port == 4790
    assert ["natPortRange" in warning for warning in warnings] == [True]
