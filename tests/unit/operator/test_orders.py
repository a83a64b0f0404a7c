"""Orders of free addresses follow what NodePeers record, whoever wrote them."""

from __future__ import annotations

import time

import msgspec
import pytest

from tortie.api.internal import Tunnels
from tortie.operator.orders import Orders
from tortie.operator.world import World

from .things import affinity, block, peer

CIDR = "10.0.0.0/30"


@pytest.fixture
def known() -> World:
    made = World()
    made.put("blockaffinities", affinity("n1", CIDR))
    made.put("ipamblocks", block("n1", CIDR, unallocated=[3, 2]))
    return made


def free(orders: Orders, node: str = "n1") -> list[str]:
    return list(orders.of(node, CIDR).available(float("inf")))


def test_an_order_begins_with_what_the_block_tells_less_what_the_peer_records(known: World) -> None:
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.3"]}, tunnels=Tunnels(vxlan4="10.0.0.0"), version=2))
    assert free(Orders(known)) == ["10.0.0.2", "10.0.0.1"]


def test_what_is_recorded_is_taken_and_what_is_dropped_comes_last(known: World) -> None:
    orders = Orders(known)
    assert free(orders) == ["10.0.0.3", "10.0.0.2", "10.0.0.0", "10.0.0.1"]
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.3"], "b": ["10.0.0.2"]}, version=2))
    assert free(orders) == ["10.0.0.0", "10.0.0.1"]
    known.put("nodepeers", peer("n1", {"b": ["10.0.0.2"]}, version=3))
    assert free(orders) == ["10.0.0.0", "10.0.0.1", "10.0.0.3"]


def test_addresses_released_together_come_in_the_same_order_everywhere(known: World) -> None:
    orders = Orders(known)
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.3"], "b": ["10.0.0.2"], "c": ["10.0.0.0"]}, version=2))
    orders.count("n1")
    assert free(orders) == ["10.0.0.1"]
    known.put("nodepeers", peer("n1", version=3))
    assert free(orders) == ["10.0.0.1", "10.0.0.0", "10.0.0.2", "10.0.0.3"]


def test_a_released_address_has_been_idle_since_now(known: World) -> None:
    orders = Orders(known)
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.3"]}, version=2))
    orders.of("n1", CIDR)
    began = time.monotonic()
    known.put("nodepeers", peer("n1", version=3))
    assert list(orders.of("n1", CIDR).available(began - 1)) == ["10.0.0.2", "10.0.0.0", "10.0.0.1"]


def test_a_block_in_another_life_begins_anew(known: World) -> None:
    orders = Orders(known)
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.3"]}, version=2))
    orders.of("n1", CIDR)
    again = block("n2", CIDR, version=9)
    metadata = msgspec.structs.replace(again.metadata, uid="another")
    known.put("ipamblocks", msgspec.structs.replace(again, metadata=metadata))
    assert free(orders, "n2") == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_an_order_that_began_before_its_block_was_heard_of_goes_on() -> None:
    made = World()
    made.put("blockaffinities", affinity("n1", CIDR))
    orders = Orders(made)
    made.put("nodepeers", peer("n1", {"a": ["10.0.0.0"]}, version=2))
    orders.of("n1", CIDR)
    made.put("nodepeers", peer("n1", version=3))
    assert free(orders)[-1] == "10.0.0.0"
    made.put("ipamblocks", block("n1", CIDR, version=4))
    assert free(orders)[-1] == "10.0.0.0"


def test_blocks_whose_addresses_changed_are_told_for_the_mirror(known: World) -> None:
    orders = Orders(known)
    orders.of("n1", CIDR)
    orders.changed.clear()
    known.put("nodepeers", peer("n1", {"a": ["10.9.9.9"]}, version=2))
    orders.count("n1")
    assert orders.changed == set()
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.1"]}, version=3))
    orders.count("n1")
    assert orders.changed == {CIDR}
