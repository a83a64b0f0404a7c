"""Who on a node gets which address, and what the node claims and gives back for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.api.calico import IPPool
from tortie.api.internal import NodePeerSpec, Tunnels
from tortie.api.kubernetes import Pod
from tortie.operator.ipam.assignment import Assigner, Assignment, Ground
from tortie.operator.ipam.pools import version, within
from tortie.operator.ipam.reuse import Reuse

from .things import peer, pod, pool

FOUR = pool("four", "10.0.0.0/24", 29)
SIX = pool("six", "fd00::/120", 125)


def used(cidr: str, *ordinals: int) -> Reuse:
    reuse = Reuse(cidr)
    for ordinal in ordinals:
        reuse.taken(reuse.address(ordinal))
    return reuse


def ground(pools: Sequence[IPPool] = (FOUR,), blocks: Sequence[str | Reuse] = ("10.0.0.0/29",), **facts: Any) -> Ground:
    """Blocks are published; the previous NodePeer is of `entries` and `tunnels`."""
    orders = [Reuse(block) if isinstance(block, str) else block for block in blocks]
    named = facts.pop("named", [order.cidr for order in orders])
    previous = peer(
        entries=facts.pop("entries", {}),
        tunnels=facts.pop("tunnels", None),
        errors=facts.pop("errors", None),
        blocks=named,
    )
    given_back: Mapping[str, Mapping[str, str]] = facts.pop("namespaces", {"default": {}})
    return Ground(
        node_labels=facts.pop("labels", {}),
        pools=pools,
        blocks={order.cidr: order for order in orders},
        previous=previous.spec,
        namespaces=given_back,
        **facts,
    )


def assign(of: Ground, *pods: Pod) -> Assignment:
    return Assigner(of).run(pods)


# --- addresses ----------------------------------------------------------------------------------------------------


def test_pods_get_addresses_of_the_nodes_block_in_turn() -> None:
    got = assign(ground(), pod("a"), pod("b"))
    assert got.addresses == {"uid-a": ("10.0.0.0",), "uid-b": ("10.0.0.1",)}
    assert not got.errors


def test_a_pod_keeps_what_is_published_whatever_became_of_pool_and_block() -> None:
    got = assign(ground(pools=[], blocks=[], entries={"a": ["10.9.9.9"]}), pod("a"))
    assert got.addresses == {"uid-a": ("10.9.9.9",)}


def test_another_pod_of_the_same_name_gets_an_address_of_its_own() -> None:
    got = assign(ground(blocks=[used("10.0.0.0/29", 0)], entries={"a": ["10.0.0.0"]}), pod("a", uid="other"))
    assert got.addresses == {"other": ("10.0.0.1",)}


def test_an_address_that_is_released_just_now_is_not_given_again_at_once() -> None:
    """The order may be ahead of the record: what is published counts as given until it is published otherwise."""
    got = assign(ground(entries={"old": ["10.0.0.0"]}), pod("new"))
    assert got.addresses == {"uid-new": ("10.0.0.1",)}


def test_dual_stack_gives_one_of_each_ipv4_first() -> None:
    got = assign(ground([SIX, FOUR], ["fd00::/125", "10.0.0.0/29"]), pod("a"))
    assert got.addresses == {"uid-a": ("10.0.0.0", "fd00::")}


def test_one_family_only_where_there_is_only_one() -> None:
    assert assign(ground([SIX], ["fd00::/125"]), pod("a")).addresses == {"uid-a": ("fd00::",)}


def test_reserved_addresses_are_not_given_and_those_in_use_stay() -> None:
    got = assign(
        ground(blocks=[used("10.0.0.0/29", 1)], entries={"kept": ["10.0.0.1"]}, reserved=("10.0.0.0/30",)),
        pod("kept"),
        pod("a"),
    )
    assert got.addresses == {"uid-kept": ("10.0.0.1",), "uid-a": ("10.0.0.4",)}


def test_an_address_that_cools_down_is_not_given() -> None:
    reuse = Reuse("10.0.0.0/31")
    reuse.taken("10.0.0.0")
    reuse.released("10.0.0.0", 100.0)
    small = pool("small", "10.0.0.0/24", 31)
    cooling = ground([small], [reuse], idle_since=50.0, claiming=False)
    got = assign(cooling, pod("a"), pod("b"))
    assert got.addresses == {"uid-a": ("10.0.0.1",)}
    assert "uid-b" in got.errors


def test_a_pool_for_other_nodes_or_namespaces_gives_nothing() -> None:
    zone = pool("zone", "10.0.0.0/24", 29, node_selector="zone == 'a'")
    assert "no IPPool gives addresses" in assign(ground([zone], labels={"zone": "b"}), pod("a")).errors["uid-a"]
    red = pool("red", "10.0.0.0/24", 29, namespace_selector="colour == 'red'")
    spaces = {"default": {}, "shop": {"colour": "red"}}
    got = assign(ground([red], namespaces=spaces), pod("a"), pod("b", namespace="shop"))
    assert got.addresses == {"uid-b": ("10.0.0.0",)}
    assert "namespace default" in got.errors["uid-a"]


@pytest.mark.parametrize(
    "state", [{"disabled": True}, {"assignment_mode": "Manual"}, {"deleted": "2026-01-01T00:00:00Z"}]
)
def test_a_pool_that_is_disabled_manual_or_leaving_gives_nothing_new(state: dict[str, Any]) -> None:
    out = pool("out", "10.0.0.0/24", 29, **state)
    got = assign(ground([out], [used("10.0.0.0/29", 0)], entries={"kept": ["10.0.0.0"]}), pod("kept"), pod("a"))
    assert got.addresses == {"uid-kept": ("10.0.0.0",)}
    assert "uid-a" in got.errors
    assert not got.wants


# --- pods whose record was lost -----------------------------------------------------------------------------------


def test_a_pod_that_runs_with_an_address_nobody_has_gets_that_one() -> None:
    got = assign(ground([FOUR, SIX], ["10.0.0.0/29", "fd00::/125"]), pod("a", ips=["10.0.0.5", "fd00::3"]))
    assert got.addresses == {"uid-a": ("10.0.0.5", "fd00::3")}


def test_neither_an_older_pod_nor_the_tunnel_takes_the_address_of_one_that_runs() -> None:
    vxlan = pool("four", "10.0.0.0/24", 29, vxlan_mode="Always")
    got = assign(ground([vxlan]), pod("older"), pod("runs", ips=["10.0.0.0"]))
    assert got.tunnels.vxlan4 == "10.0.0.1"
    assert got.addresses == {"uid-older": ("10.0.0.2",), "uid-runs": ("10.0.0.0",)}


def test_what_a_pod_says_does_not_count_against_a_record_or_outside_of_the_nodes_blocks() -> None:
    mine = ground(blocks=[used("10.0.0.0/29", 5)], entries={"other": ["10.0.0.5"]})
    got = assign(mine, pod("other"), pod("a", ips=["10.0.0.5"]), pod("b", ips=["10.0.9.1"]))
    assert got.addresses == {"uid-other": ("10.0.0.5",), "uid-a": ("10.0.0.0",), "uid-b": ("10.0.0.1",)}


def test_of_two_pods_that_say_the_same_the_first_has_it() -> None:
    got = assign(ground(), pod("a", ips=["10.0.0.5"]), pod("b", ips=["10.0.0.5"]))
    assert got.addresses == {"uid-a": ("10.0.0.5",), "uid-b": ("10.0.0.0",)}


# --- blocks that are claimed --------------------------------------------------------------------------------------


def test_a_full_block_makes_a_pod_wait_for_another() -> None:
    got = assign(ground(blocks=[used("10.0.0.0/29", *range(8))]), pod("a"))
    assert list(got.wants) == ["four"]
    assert not got.addresses
    assert not got.errors


def test_a_pod_that_waits_for_one_family_takes_nothing_of_the_other() -> None:
    got = assign(ground([FOUR, SIX], [Reuse("10.0.0.0/29"), used("fd00::/125", *range(8))]), pod("a"), pod("b"))
    assert list(got.wants) == ["six"]
    assert not got.addresses


def test_the_next_pool_is_asked_once_the_first_has_no_block_left() -> None:
    other = pool("other", "10.1.0.0/24", 29)
    full = [used("10.0.0.0/29", *range(8))]
    assert list(assign(ground([FOUR, other], full, exhausted=frozenset(["four"])), pod("a")).wants) == ["other"]


def test_without_a_block_left_anywhere_the_pod_is_told_and_looked_at_again() -> None:
    got = assign(ground(blocks=[used("10.0.0.0/29", *range(8))], exhausted=frozenset(["four"])), pod("a"))
    assert got.errors == {"uid-a": "no free IPv4 address: all blocks of four (10.0.0.0/24) are taken"}
    assert got.lacking


def test_a_pod_without_its_second_family_gets_none_and_leaves_the_first_to_others() -> None:
    of = ground(
        [FOUR, SIX], [used("10.0.0.0/29", *range(7)), used("fd00::/125", *range(8))], exhausted=frozenset(["six"])
    )
    got = assign(of, pod("a"))
    assert "IPv6" in got.errors["uid-a"]
    assert not got.addresses


def test_a_node_has_no_more_blocks_than_it_may() -> None:
    got = assign(ground(blocks=[used("10.0.0.0/29", *range(8))], most_blocks=1), pod("a"))
    assert "the most it may (maxBlocksPerHost)" in got.errors["uid-a"]
    assert not got.wants


def test_the_limit_counts_each_family_for_itself() -> None:
    got = assign(ground([FOUR, SIX], ["10.0.0.0/29", used("fd00::/125", *range(8))], most_blocks=2), pod("a"))
    assert list(got.wants) == ["six"]


def test_no_block_is_claimed_where_that_is_switched_off() -> None:
    got = assign(ground(blocks=[used("10.0.0.0/29", *range(8))], claiming=False), pod("a"))
    assert "autoAllocateBlocks: false" in got.errors["uid-a"]
    assert not got.wants


def test_a_pod_that_was_refused_is_told_so_until_there_is_something_better_to_tell() -> None:
    """Or its entry would go and come with every look."""
    full = [used("10.0.0.0/29", *range(8))]
    got = assign(ground(blocks=full, errors={"a": "no free address"}), pod("a"))
    assert got.errors == {"uid-a": "no free address"}
    assert list(got.wants) == ["four"]


def test_a_block_is_claimed_ahead_of_need() -> None:
    assert not assign(ground(blocks=[used("10.0.0.0/29", *range(5))]), pod("a")).wants  # 2 of 8 are left
    assert list(assign(ground(blocks=[used("10.0.0.0/29", *range(6))]), pod("a")).wants) == ["four"]


def test_ahead_counts_what_can_be_given() -> None:
    """Neither what is reserved nor what a pool for a few namespaces has is there for the next pod."""
    assert list(assign(ground(reserved=("10.0.0.0/29",))).wants) == ["four"]
    red = pool("red", "10.1.0.0/24", 29, namespace_selector="colour == 'red'")
    got = assign(ground([FOUR, red], [used("10.0.0.0/29", *range(8)), Reuse("10.1.0.0/29")]))
    assert list(got.wants) == ["four"]


def test_nothing_is_claimed_ahead_of_a_pool_for_a_few_namespaces() -> None:
    red = pool("red", "10.1.0.0/24", 29, namespace_selector="colour == 'red'")
    assert not assign(ground([red], [])).wants
    got = assign(ground([red], [], namespaces={"default": {"colour": "red"}}), pod("a"))
    assert list(got.wants) == ["red"]


# --- tunnels ------------------------------------------------------------------------------------------------------


def vxlan(name: str, cidr: str, size: int = 29, **spec: Any) -> IPPool:
    return pool(name, cidr, size, vxlan_mode="CrossSubnet", **spec)


def test_a_tunnel_has_an_address_where_a_pool_of_its_family_is_encapsulated() -> None:
    got = assign(ground([vxlan("four", "10.0.0.0/24"), SIX], ["10.0.0.0/29", "fd00::/125"]), pod("a"))
    assert got.tunnels == Tunnels(vxlan4="10.0.0.0")
    assert got.addresses == {"uid-a": ("10.0.0.1", "fd00::")}


def test_it_keeps_its_address_also_of_a_disabled_pool_and_loses_it_when_nothing_is_encapsulated() -> None:
    had = Tunnels(vxlan4="10.0.0.3")
    disabled = vxlan("four", "10.0.0.0/24", disabled=True)
    assert assign(ground([disabled], [used("10.0.0.0/29", 3)], tunnels=had)).tunnels == had
    assert assign(ground([FOUR], [used("10.0.0.0/29", 3)], tunnels=had)).tunnels == Tunnels()


def test_it_moves_when_its_pool_goes() -> None:
    """Or the last block of a pool would never be given back."""
    had = Tunnels(vxlan4="10.9.0.3")
    blocks = [used("10.9.0.0/29", 3), Reuse("10.0.0.0/29")]
    going = vxlan("going", "10.9.0.0/24", deleted="2026-01-01T00:00:00Z")
    assert assign(ground([vxlan("four", "10.0.0.0/24"), going], blocks, tunnels=had)).tunnels.vxlan4 == "10.0.0.0"
    got = assign(ground([vxlan("four", "10.0.0.0/24"), going], blocks[:1], tunnels=had))
    assert got.tunnels == had  # until there is another block
    assert "four" in got.wants
    assert assign(ground([going], blocks[:1], tunnels=had)).tunnels == Tunnels()


def test_a_pool_for_tunnels_gives_addresses_to_no_pod() -> None:
    tunnels = vxlan("tunnels", "10.9.0.0/24", allowed_uses=("Tunnel",))
    workloads = vxlan("four", "10.0.0.0/24", allowed_uses=("Workload",))
    got = assign(ground([tunnels, workloads], ["10.0.0.0/29", "10.9.0.0/29"]), pod("a"))
    assert got.tunnels.vxlan4 == "10.9.0.0"
    assert got.addresses == {"uid-a": ("10.0.0.0",)}


# --- blocks that are given back -----------------------------------------------------------------------------------


def test_an_empty_block_beyond_need_leaves() -> None:
    blocks = ["10.0.0.0/29", "10.0.0.16/29", "10.0.0.8/29"]
    got = assign(ground(blocks=blocks), pod("a"))
    assert got.addresses == {"uid-a": ("10.0.0.0",)}
    assert got.leaving == ["10.0.0.8/29"]


def test_a_block_that_gives_an_address_now_does_not_leave() -> None:
    blocks = [used("10.0.0.0/29", *range(8)), Reuse("10.0.0.8/29")]
    disabled = [pool("four", "10.0.0.0/24", 29)]
    assert assign(ground(disabled, blocks), pod("a")).leaving == []


@pytest.mark.parametrize(
    "pools",
    [
        [],
        [pool("four", "10.0.0.0/24", 29, disabled=True)],
        [pool("four", "10.0.0.0/24", 29, node_selector="zone == 'b'")],
        [pool("four", "10.0.0.0/24", 29, allowed_uses=("LoadBalancer",))],
    ],
)
def test_empty_blocks_that_no_pool_wants_here_leave_all(pools: list[IPPool]) -> None:
    blocks = ["10.0.0.0/29", used("10.0.0.8/29", 0)]
    assert assign(ground(pools, blocks, entries={"a": ["10.0.0.8"]}), pod("a")).leaving == ["10.0.0.0/29"]


def test_a_block_that_the_published_peer_does_not_name_cannot_leave_it() -> None:
    """It enters first (holdings)."""
    assert assign(ground([], ["10.0.0.0/29"], named=[])).leaving == []


def test_free_addresses_of_one_pool_are_no_reason_to_give_back_a_block_of_another() -> None:
    red = pool("red", "10.1.0.0/24", 29, namespace_selector="colour == 'red'")
    got = assign(ground([FOUR, red], ["10.0.0.0/29", "10.1.0.0/29", "10.1.0.8/29"]))
    assert got.leaving == ["10.1.0.8/29"]
    assert not got.wants


def test_blocks_that_were_handed_to_a_node_stay_where_none_is_claimed() -> None:
    blocks = ["10.0.0.0/29", "10.0.0.8/29", "10.0.0.16/29"]
    assert assign(ground(blocks=blocks, claiming=False)).leaving == []


# --- whatever is asked --------------------------------------------------------------------------------------------

POOLS = [
    pool("a", "10.0.0.0/27", 30, vxlan_mode="Always"),
    pool("b", "10.0.1.0/27", 30, disabled=True),
    pool("c", "10.0.2.0/27", 30, namespace_selector="colour == 'red'"),
    pool("six", "fd00::/123", 126),
]
BLOCKS = ["10.0.0.0/30", "10.0.0.4/30", "10.0.1.0/30", "10.0.2.0/30", "fd00::/126", "fd00::4/126"]
PODS = [pod(f"{space}-{name}", namespace=space) for name in "abcd" for space in ("red", "blue")]


@given(
    st.lists(st.sampled_from(POOLS), unique_by=lambda each: each.metadata.name),
    st.lists(st.sampled_from(BLOCKS), unique=True),
    st.permutations(PODS),
    st.booleans(),
    st.sets(st.sampled_from(["a", "c", "six"])),
)
def test_asked_again_about_what_it_said_it_says_the_same(
    pools: list[IPPool], blocks: list[str], pods: list[Pod], claiming: bool, exhausted: set[str]
) -> None:
    """No address twice, each from a block of the node; and the answer, once published, is a fixed point."""
    spaces = {"red": {"colour": "red"}, "blue": {}}
    facts = {"namespaces": spaces, "claiming": claiming, "exhausted": frozenset(exhausted)}
    first = assign(ground(pools, blocks, **facts), *pods)
    given_out = [a for addresses in first.addresses.values() for a in addresses]
    given_out += [a for a in (first.tunnels.vxlan4, first.tunnels.vxlan6) if a]
    assert len(given_out) == len(set(given_out))
    assert all(any(within(address, block) for block in blocks) for address in given_out)
    assert not any(within(address, block) for address in given_out for block in first.leaving)
    assert not set(first.addresses) & set(first.errors)
    for addresses in first.addresses.values():
        assert sorted(map(version, addresses)) == list(map(version, addresses)) != []
    entries = {p.metadata.uid.removeprefix("uid-"): first.addresses.get(p.metadata.uid, ()) for p in pods}
    orders = [Reuse(block) for block in blocks if block not in first.leaving]
    for order in orders:
        for address in given_out:
            order.taken(address)
    again = ground(pools, orders, entries=entries, tunnels=first.tunnels, **facts)
    second = assign(again, *pods)
    assert (second.addresses, second.tunnels, second.errors) == (first.addresses, first.tunnels, first.errors)
    assert second.leaving == []


def test_nothing_outside_is_changed() -> None:
    reuse = Reuse("10.0.0.0/29")
    of = ground(blocks=[reuse])
    assign(of, pod("a"))
    assert reuse.empty
    assert of.previous == NodePeerSpec(epoch=1, blocks=("10.0.0.0/29",))
