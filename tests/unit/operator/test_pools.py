"""Which pools may serve whom."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.operator.ipam.pools import TUNNEL, WORKLOAD, for_namespace, giving, merged, overlapped, pool_of, within

from .things import pool

networks = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(
        lambda length: str(ip_network((address.packed, length), strict=False))
    )
)


def names(pools: list) -> list[str]:  # type: ignore[type-arg]
    return [pool.metadata.name for pool in pools]


def test_pools_give_by_name_and_not_when_disabled_manual_leaving_or_for_another_use() -> None:
    pools = [
        pool("b", "10.1.0.0/16"),
        pool("a", "10.0.0.0/16"),
        pool("disabled", "10.2.0.0/16", disabled=True),
        pool("manual", "10.3.0.0/16", assignment_mode="Manual"),
        pool("leaving", "10.4.0.0/16", deleted="2026-01-01T00:00:00Z"),
        pool("tunnels", "10.5.0.0/16", allowed_uses=("Tunnel",)),
        pool("balancers", "10.6.0.0/16", allowed_uses=("LoadBalancer",)),
    ]
    assert names(giving(pools, WORKLOAD, {})) == ["a", "b"]
    assert names(giving(pools, TUNNEL, {})) == ["a", "b", "tunnels"]


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ("all()", {}, True),
        ("", {}, True),
        ("zone == 'a'", {"zone": "a"}, True),
        ("zone == 'a'", {"zone": "b"}, False),
        ("!has(zone)", {"zone": "b"}, False),
        ("this does not parse", {}, False),
    ],
)
def test_a_node_selector_that_does_not_parse_selects_no_node(
    selector: str, labels: dict[str, str], selected: bool
) -> None:
    assert bool(giving([pool("a", "10.0.0.0/16", node_selector=selector)], WORKLOAD, labels)) == selected


def test_a_namespace_selector_sees_the_namespaces_labels_and_its_name() -> None:
    pools = [
        pool("any", "10.0.0.0/16"),
        pool("red", "10.1.0.0/16", namespace_selector="colour == 'red'"),
        pool("named", "10.2.0.0/16", namespace_selector="projectcalico.org/name == 'shop'"),
    ]
    assert names(for_namespace(pools, "shop", {"colour": "red"})) == ["any", "red", "named"]
    assert names(for_namespace(pools, "other", {"colour": "blue"})) == ["any"]


@given(networks, networks)
def test_within_is_what_ipaddress_says(inner: str, outer: str) -> None:
    one, other = ip_network(inner), ip_network(outer)
    expected = one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]
    assert within(inner, outer) == expected


def test_a_single_address_is_within_a_network() -> None:
    assert within("10.0.0.5", "10.0.0.0/26")
    assert within("fd00::5", "fd00::/122")
    assert not within("10.0.0.64", "10.0.0.0/26")


def test_a_block_belongs_to_the_pool_that_it_lies_in() -> None:
    pools = [pool("a", "10.0.0.0/16"), pool("b", "10.1.0.0/16")]
    found = pool_of("10.1.2.0/26", pools)
    assert found is not None
    assert found.metadata.name == "b"
    assert pool_of("10.2.0.0/26", pools) is None


def test_of_pools_that_overlap_the_oldest_gives() -> None:
    pools = [
        pool("wide", "10.0.0.0/8", created="2026-01-03T00:00:00Z"),
        pool("old", "10.0.0.0/16", created="2026-01-01T00:00:00Z"),
        pool("same-age", "10.0.0.0/24", created="2026-01-01T00:00:00Z"),
        pool("apart", "192.168.0.0/16", created="2026-01-05T00:00:00Z"),
        pool("six", "fd00::/48", created="2026-01-06T00:00:00Z"),
    ]
    assert overlapped(pools) == {"wide": "old", "same-age": "old"}


@given(st.lists(networks, max_size=8))
def test_merging_keeps_exactly_the_same_addresses(cidrs: list[str]) -> None:
    result = [ip_network(cidr) for cidr in merged(cidrs)]
    for cidr in cidrs:
        net = ip_network(cidr)
        assert any(net.version == other.version and net.subnet_of(other) for other in result)  # type: ignore[arg-type]
    for net in result:
        assert any(net.network_address in ip_network(cidr) for cidr in cidrs)
    assert not any(one.overlaps(other) for one in result for other in result if one is not other)


def test_a_reservation_with_host_bits_means_its_network_and_one_that_is_none_means_nothing() -> None:
    """The API server lets both pass."""
    assert merged(["10.0.0.5/30", "nonsense", "fd00::1"]) == ("10.0.0.4/30", "fd00::1/128")
    assert ip_address("fd00::1") in ip_network(merged(["fd00::1"])[0])
