"""Which FelixConfiguration counts for a node, field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tortie.api.felix import (
    FAILSAFE_IN,
    FAILSAFE_OUT,
    READERS,
    FailsafePort,
    FelixConfiguration,
    FelixConfigurationSpec,
    failsafes,
    resolve,
)
from tortie.api.internal import Settings

OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def config(name: str, created: str = OLD, **spec: Any) -> FelixConfiguration:
    body = {"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}
    return msgspec.convert(body, FelixConfiguration)


def test_without_any_the_built_in_settings_hold() -> None:
    assert resolve([], "a", {}) == (Settings(), [])


def test_precedence_is_by_field() -> None:
    configs = [
        config("default", vxlanPort=1, vxlanVNI=1, vxlanMTU=1, mtuIfacePattern="eth0"),
        config("racks", nodeSelector="has(rack)", vxlanPort=2, vxlanVNI=2, vxlanMTU=2),
        config("node.a", vxlanPort=3, vxlanVNI=3),
        config("node.b", vxlanPort=4),
    ]
    settings, warnings = resolve(configs, "a", {"rack": "1"})
    assert (settings.vxlan_port, settings.vxlan_vni, settings.vxlan_mtu, settings.mtu_iface_pattern) == (
        3,
        3,
        2,
        "eth0",
    )
    assert warnings == []
    assert resolve(configs, "b", {})[0].vxlan_port == 4
    assert resolve(configs, "c", {})[0].vxlan_port == 1
    assert resolve(configs, "c", {"rack": "2"})[0].vxlan_port == 2
    assert resolve(configs, "c", {"rack": "2"}) == resolve(reversed(configs), "c", {"rack": "2"})


def test_the_oldest_matching_selector_wins_and_the_younger_is_named() -> None:
    configs = [config("a", NEW, nodeSelector="all()", vxlanMTU=1), config("z", OLD, nodeSelector="all()", vxlanPort=2)]
    settings, [warning] = resolve(configs, "n", {})
    assert (settings.vxlan_mtu, settings.vxlan_port) == (0, 2)
    assert warning.startswith("FelixConfiguration a: nodeSelector 'all()': z is older")
    same_age = [config("z", nodeSelector="all()", vxlanMTU=1), config("a", nodeSelector="all()", vxlanMTU=2)]
    assert resolve(same_age, "n", {})[0].vxlan_mtu == 2


@pytest.mark.parametrize(
    ("field", "value", "setting", "expected"),
    [
        ("deviceRouteProtocol", 3, "device_route_protocol", 80),
        ("deviceRouteProtocol", 81, "device_route_protocol", 81),
        ("defaultEndpointToHostAction", "DROP", "default_endpoint_to_host_action", "Drop"),
        ("logSeverityScreen", "warning", "log_severity", "Warning"),
        ("logSeverityScreen", "", "log_severity", "Info"),
        ("natPortRange", 0, "nat_port_range", ""),
        ("natPortRange", 4000, "nat_port_range", "4000:4000"),
        ("natPortRange", "4000:5000", "nat_port_range", "4000:5000"),
        ("ipv4NormalRoutePriority", 7, "ipv4_route_priority", 7),
        ("ipv6NormalRoutePriority", 8, "ipv6_route_priority", 8),
        ("ipv6Support", False, "ipv6_support", False),
        ("natOutgoingAddress", "192.0.2.1", "nat_outgoing_address", "192.0.2.1"),
        ("natOutgoingExclusions", "IPPoolsAndHostIPs", "nat_outgoing_exclusions", "IPPoolsAndHostIPs"),
        ("vxlanMTUV6", 1370, "vxlan_mtu_v6", 1370),
    ],
)
def test_values(field: str, value: Any, setting: str, expected: object) -> None:
    settings, warnings = resolve([config("default", OLD, **{field: value})], "n", {})
    assert getattr(settings, setting) == expected
    assert warnings == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vxlanVNI", 0),
        ("vxlanVNI", 2**24),
        ("vxlanPort", 65536),
        ("vxlanMTU", -1),
        ("mtuIfacePattern", "("),
        ("deviceRouteProtocol", 256),
        ("ipv4NormalRoutePriority", 0),
        ("natPortRange", "5000:4000"),
        ("natPortRange", "0:10"),
        ("natPortRange", "http"),
        ("natPortRange", "1:2:3"),
        ("defaultEndpointToHostAction", "Perhaps"),
    ],
)
def test_a_value_that_means_nothing_yields_to_the_next_source_with_a_warning(field: str, value: Any) -> None:
    settings, [warning] = resolve([config("node.n", OLD, **{field: value}), config("default", vxlanMTU=1400)], "n", {})
    assert settings == Settings(vxlan_mtu=1400)
    assert warning.startswith(f"FelixConfiguration node.n: {field} {value!r}: ")


def test_selectors_that_cannot_apply_are_named() -> None:
    configs = [config("broken", nodeSelector="rack =", vxlanMTU=1), config("idle", vxlanMTU=2)]
    settings, warnings = resolve(configs, "n", {})
    assert settings == Settings()
    assert "FelixConfiguration broken: nodeSelector: selector 'rack ='" in warnings[0]
    assert warnings[1] == "FelixConfiguration idle: without a nodeSelector it applies to no node"


def test_every_field_is_read_into_a_setting_and_every_setting_can_be_set() -> None:
    lists = {"failsafe_inbound_host_ports", "failsafe_outbound_host_ports"}
    assert READERS.keys() == set(FelixConfigurationSpec.__struct_fields__) - {"node_selector"} - lists
    assert {setting for setting, _ in READERS.values()} == set(Settings.__struct_fields__)


def test_each_list_of_failsafe_ports_is_from_the_strongest_that_has_one() -> None:
    """An empty list is one: no port at all."""
    default = config("default", failsafeInboundHostPorts=[{"port": 22, "net": "10.0.0.0/8"}])
    own = config("node.n", failsafeOutboundHostPorts=[])
    inbound, outbound, _ = failsafes([default, own], "n", {})
    assert [(each.protocol, each.port, each.net) for each in inbound] == [("TCP", 22, "10.0.0.0/8")]
    assert outbound == ()
    assert failsafes([own], "other", {}) == (FAILSAFE_IN, FAILSAFE_OUT, [])
    assert {("UDP", 68), ("TCP", 22), ("TCP", 6443)} <= {(each.protocol, each.port) for each in FAILSAFE_IN}
    assert {("UDP", 53), ("UDP", 67), ("TCP", 2379)} <= {(each.protocol, each.port) for each in FAILSAFE_OUT}
    assert (len(FAILSAFE_IN), len(FAILSAFE_OUT)) == (9, 9)


@pytest.mark.parametrize(
    "bad", [{"port": 0}, {"port": 70000}, {"port": 1, "protocol": "ICMP"}, {"port": 1, "net": "10.0.0.0/33"}]
)
def test_a_failsafe_port_that_means_nothing_is_left_out_with_a_warning(bad: dict[str, Any]) -> None:
    good = {"port": 22, "protocol": "tcp", "net": "10.0.0.1/8"}
    inbound, outbound, [warning] = failsafes([config("default", failsafeInboundHostPorts=[bad, good])], "n", {})
    assert inbound == (FailsafePort(port=22, net="10.0.0.0/8"),)
    assert outbound == FAILSAFE_OUT
    assert warning.startswith('FelixConfiguration default: failsafeInboundHostPorts {"port":')
