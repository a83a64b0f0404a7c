"""Which block a node claims next, and which it gives back."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.operator.ipam.candidates import ahead, candidates, surplus
from tortie.operator.ipam.names import affinity_name, object_name
from tortie.operator.ipam.pools import merged

from .things import pool

SMALL = pool("small", "10.0.0.0/24", 28)


def blocks(cidr: str, size: int) -> list[str]:
    return [str(net) for net in ip_network(cidr).subnets(new_prefix=size)]


def test_every_free_block_comes_once_beginning_at_a_place_of_the_nodes_own() -> None:
    found = list(candidates(SMALL, "n1", ()))
    assert sorted(found) == sorted(blocks("10.0.0.0/24", 28))
    turned = blocks("10.0.0.0/24", 28)
    start = turned.index(found[0])
    assert found == turned[start:] + turned[:start]
    assert len({next(candidates(SMALL, f"n{number}", ())) for number in range(30)}) > 8


def test_taken_blocks_are_passed_over() -> None:
    assert set(candidates(SMALL, "n1", ["10.0.0.16/28", "10.0.0.32/28"])) == {
        block for block in blocks("10.0.0.0/24", 28) if block not in ("10.0.0.16/28", "10.0.0.32/28")
    }
    assert list(candidates(SMALL, "n1", blocks("10.0.0.0/24", 28))) == []


@pytest.mark.parametrize("taken", ["10.0.0.20/30", "10.0.0.0/26", "10.0.0.0/16"])
def test_what_overlaps_a_block_of_another_size_is_taken_too(taken: str) -> None:
    """The pool was made anew with another block size while a node still had a block."""
    expected = {b for b in blocks("10.0.0.0/24", 28) if not ip_network(b).overlaps(ip_network(taken))}
    assert set(candidates(SMALL, "n1", [taken])) == expected


def test_blocks_that_are_reserved_as_a_whole_are_passed_over_and_others_are_not() -> None:
    found = set(candidates(SMALL, "n1", (), ["10.0.0.16/28", "10.0.0.32/29", "10.0.0.128/25"]))
    expected = {b for b in blocks("10.0.0.0/25", 28) if b != "10.0.0.16/28"}
    assert found == expected


def test_a_block_reserved_address_by_address_is_reserved_as_a_whole() -> None:
    one_by_one = merged(f"10.0.0.{number}/32" for number in range(16, 32))
    assert "10.0.0.16/28" not in set(candidates(SMALL, "n1", (), one_by_one))


def test_a_reservation_of_most_of_a_huge_pool_costs_nothing() -> None:
    huge = pool("huge", "fd00::/48")
    found = list(islice(candidates(huge, "n1", ["fd00:0:0:8000::/122"], ["fd00::/49", "fd00:0:0:c000::/50"]), 3))
    assert len(found) == 3
    assert all(ip_network(block).subnet_of(ip_network("fd00:0:0:8000::/50")) for block in found)  # type: ignore[arg-type]
    assert list(candidates(huge, "n1", (), ["fd00::/16"])) == []


def test_a_pool_smaller_than_a_block_has_none() -> None:
    assert list(candidates(pool("tiny", "10.0.0.0/30", 26), "n1", ())) == []


@given(
    st.sets(st.integers(0, 63)).map(lambda numbers: [f"10.0.0.{4 * number}/30" for number in numbers]),
    st.lists(st.tuples(st.integers(0, 63), st.integers(26, 32)), max_size=4),
    st.text("abcdef", min_size=1, max_size=3),
)
def test_candidates_are_exactly_what_is_neither_taken_nor_reserved(
    taken: list[str], reserved: list[tuple[int, int]], node: str
) -> None:
    nets = merged(f"10.0.0.{4 * number}/{length}" for number, length in reserved)
    free = {
        block
        for block in blocks("10.0.0.0/24", 30)
        if block not in taken and not any(ip_network(block).subnet_of(ip_network(net)) for net in nets)  # type: ignore[arg-type]
    }
    assert set(candidates(pool("p", "10.0.0.0/24", 30), node, taken, nets)) == free


def test_ahead_is_eight_or_a_quarter_of_a_small_block() -> None:
    assert ahead(pool("a", "10.0.0.0/16")) == 8
    assert ahead(pool("a", "10.0.0.0/16", 28)) == 4
    assert ahead(pool("a", "10.0.0.0/16", 30)) == 1
    assert ahead(pool("a", "10.0.0.0/16", 32)) == 0
    assert ahead(pool("a", "fd00::/48")) == 8


def test_empty_blocks_go_as_long_as_a_whole_block_and_what_is_kept_ahead_are_left() -> None:
    sizes = dict.fromkeys("abcd", 64)
    assert surplus({"a": 0, "b": 64, "c": 64, "d": 64}, sizes, {"b", "c", "d"}, 8) == ["d"]
    assert surplus({"a": 10, "b": 64, "c": 64, "d": 64}, sizes, {"b", "c", "d"}, 8) == ["d", "c"]
    assert surplus({"a": 10, "b": 64}, sizes, {"b"}, 8) == []
    assert surplus({"a": 64}, sizes, {"a"}, 8) == []


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(0, 16), max_size=8), st.integers(0, 4))
def test_after_giving_back_there_is_no_need_to_claim(free: dict[str, int], keep: int) -> None:
    """Or a node would claim and give back for ever."""
    empty = {block for block, count in free.items() if count == 16}
    given_back = surplus(free, dict.fromkeys(free, 16), empty, keep)
    left = sum(count for block, count in free.items() if block not in given_back)
    assert set(given_back) <= empty
    assert not given_back or left >= 16 + keep


def test_names_are_calicos_and_never_too_long() -> None:
    assert object_name("10.0.0.0/26") == "10-0-0-0-26"
    assert object_name("fd00:1::/122") == "fd00-1---122"
    assert affinity_name("node1", "10.0.0.0/26") == "node1-10-0-0-0-26"
    long = affinity_name("n" * 253, "10.0.0.0/26")
    assert len(long) == 253
    assert long != affinity_name("n" * 253, "10.0.0.64/26")
