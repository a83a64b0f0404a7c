"""The order in which free addresses are given out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tortie.operator.ipam.reuse import Reuse


def test_a_new_blocks_addresses_come_from_the_first_on() -> None:
    reuse = Reuse("10.0.0.4/30")
    assert list(reuse.available(0.0)) == ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]
    assert reuse.empty
    assert len(reuse) == reuse.size == 4


def test_a_released_address_comes_last() -> None:
    reuse = Reuse("10.0.0.4/30")
    reuse.taken("10.0.0.4")
    reuse.taken("10.0.0.5")
    reuse.released("10.0.0.4", 100.0)
    assert list(reuse.available(100.0)) == ["10.0.0.6", "10.0.0.7", "10.0.0.4"]
    assert not reuse.empty


def test_a_released_address_cools_down() -> None:
    reuse = Reuse("10.0.0.4/31")
    reuse.taken("10.0.0.4")
    reuse.released("10.0.0.4", 100.0)
    assert list(reuse.available(99.9)) == ["10.0.0.5"]
    assert list(reuse.available(100.0)) == ["10.0.0.5", "10.0.0.4"]


def test_addresses_idle_since_before_our_time_need_not_cool_down_however_young_the_machine() -> None:
    """The monotonic clock may be smaller than a cool-down."""
    assert list(Reuse("10.0.0.4/31").available(5.0 - 1200.0)) == ["10.0.0.4", "10.0.0.5"]


def test_a_leader_goes_on_with_the_order_that_the_block_tells() -> None:
    reuse = Reuse("10.0.0.4/30", [3, 1, 99, -1, 3])
    assert list(reuse.available(0.0)) == ["10.0.0.7", "10.0.0.5", "10.0.0.4", "10.0.0.6"]
    assert reuse.ordinals == (3, 1, 0, 2)


def test_ordinals_are_of_the_block_and_of_nothing_else() -> None:
    reuse = Reuse("fd00::40/122")
    assert reuse.ordinal("fd00::41") == 1
    assert reuse.address(1) == "fd00::41"
    assert reuse.ordinal("fd00::3f") is None
    assert reuse.ordinal("0.0.0.1") is None
    assert reuse.ordinal("no address") is None
    reuse.taken("10.0.0.1")
    reuse.released("10.0.0.1", 1.0)
    assert reuse.empty


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=40))
def test_each_address_is_free_once_or_taken_and_order_is_by_release(changes: list[tuple[int, bool]]) -> None:
    reuse = Reuse("10.0.0.0/29")
    free: list[int] = list(range(8))
    for now, (ordinal, take) in enumerate(changes):
        if take:
            reuse.taken(reuse.address(ordinal))
            free = [each for each in free if each != ordinal]
        else:
            reuse.released(reuse.address(ordinal), float(now))
            free = [each for each in free if each != ordinal] + [ordinal]
        assert list(reuse.ordinals) == free
