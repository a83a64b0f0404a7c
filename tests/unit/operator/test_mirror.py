"""What IPAMBlock says of the addresses that NodePeers record, in Calico's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from tortie.api.calico import IPAMBlockSpec
from tortie.api.internal import Tunnels
from tortie.operator.ipam.mirror import holders, mirrored
from tortie.operator.ipam.reuse import Reuse

from .things import block, peer

CIDR = "10.0.0.0/30"


def mirror(
    entries: Mapping[str, Sequence[str]], before: IPAMBlockSpec | None = None, tunnels: Tunnels | None = None
) -> IPAMBlockSpec:
    spec = peer(entries=entries, tunnels=tunnels).spec
    held = holders("n1", spec)
    order = Reuse(CIDR)
    for address in held:
        order.taken(address)
    return mirrored(before or block("n1", CIDR).spec, held, order)


def test_each_address_names_its_pod_in_calicos_words() -> None:
    spec = mirror({"web": ["10.0.0.1"]})
    assert spec.allocations == (None, 0, None, None)
    assert spec.unallocated == (0, 2, 3)
    (attribute,) = spec.attributes
    assert attribute.handle_id == "k8s-pod-network.uid-web"
    assert attribute.secondary == {"namespace": "default", "node": "n1", "pod": "web"}


def test_tunnels_have_calicos_handles_of_each_family() -> None:
    held = holders("n1", peer(tunnels=Tunnels(vxlan4="10.0.0.0", vxlan6="fd00::1")).spec)
    assert held["10.0.0.0"].handle == "vxlan-tunnel-addr-n1"
    assert dict(held["10.0.0.0"].attributes) == {"node": "n1", "type": "vxlanTunnelAddress"}
    assert held["fd00::1"].handle == "vxlan-v6-tunnel-addr-n1"
    assert dict(held["fd00::1"].attributes) == {"node": "n1", "type": "vxlanV6TunnelAddress"}


def test_holders_are_listed_in_the_order_of_their_addresses() -> None:
    spec = mirror({"b": ["10.0.0.2"], "a": ["10.0.0.0"]})
    assert [attribute.secondary["pod"] for attribute in spec.attributes] == ["a", "b"]
    assert spec.allocations == (0, None, 1, None)


def test_a_mirror_that_is_true_is_not_written_again() -> None:
    spec = mirror({"a": ["10.0.0.0"]})
    assert mirror({"a": ["10.0.0.0"]}, spec) is spec


def test_an_address_keeps_the_sequence_number_of_its_allocation() -> None:
    first = mirror({"a": ["10.0.0.0"]})
    second = mirror({"a": ["10.0.0.0"], "b": ["10.0.0.1"]}, first)
    third = mirror({"b": ["10.0.0.1"]}, second)
    assert (first.sequence_number, second.sequence_number, third.sequence_number) == (1, 2, 3)
    assert second.sequence_number_for_allocation == {"0": 1, "1": 2}
    assert third.sequence_number_for_allocation == {"1": 2}


def test_addresses_of_other_blocks_are_not_mirrored() -> None:
    assert mirror({"a": ["10.0.9.0", "fd00::1"]}).attributes == ()


held = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=4)


@given(held, held)
def test_whatever_it_said_before_it_says_exactly_who_holds_what(before: dict[str, int], after: dict[str, int]) -> None:
    def entries(of: dict[str, int]) -> dict[str, list[str]]:
        holders_of = {ordinal: name for name, ordinal in sorted(of.items())}
        return {name: [f"10.0.0.{ordinal}"] for ordinal, name in holders_of.items()}

    spec = mirror(entries(after), mirror(entries(before)))
    told = {
        f"10.0.0.{ordinal}": spec.attributes[index].secondary["pod"]
        for ordinal, index in enumerate(spec.allocations)
        if index is not None
    }
    assert told == {addresses[0]: name for name, addresses in entries(after).items()}
    assert sorted(spec.unallocated) == [o for o, index in enumerate(spec.allocations) if index is None]
    assert set(spec.sequence_number_for_allocation) == {str(o) for o, i in enumerate(spec.allocations) if i is not None}
