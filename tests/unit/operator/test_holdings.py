"""By which door blocks enter and leave a NodePeer."""

from __future__ import annotations

from tortie.operator.holdings import Holdings
from tortie.operator.world import World

from .things import affinity, peer

CIDR = "10.0.0.0/26"


def world(*, state: str = "confirmed", named: bool = False) -> World:
    made = World()
    made.put("nodepeers", peer("n1", blocks=[CIDR] if named else [], version=5))
    made.put("blockaffinities", affinity("n1", CIDR, state, version=4))
    return made


def enter(holdings: Holdings) -> None:
    holdings.confirmed("n1", CIDR, holdings.known("n1"))


def test_a_block_that_the_peer_names_is_usable_while_it_is_confirmed() -> None:
    assert Holdings(world(named=True)).usable("n1") == [CIDR]
    assert Holdings(world(named=True, state="pendingDeletion")).usable("n1") == []
    assert Holdings(world(named=True, state="pending")).usable("n1") == []


def test_a_confirmed_block_that_the_peer_does_not_name_waits_to_be_confirmed_by_us() -> None:
    known = world()
    holdings = Holdings(known)
    (found,) = known.affinities_of("n1")
    assert holdings.usable("n1") == []
    assert holdings.waits(found)
    enter(holdings)
    assert holdings.usable("n1") == [CIDR]
    assert not holdings.waits(found)


def test_what_we_confirmed_before_someone_else_wrote_the_peer_does_not_count() -> None:
    """The peer that we read may be the one from which the block was taken to be given back."""
    known = world()
    holdings = Holdings(known)
    enter(holdings)
    known.put("nodepeers", peer("n1", version=9))
    assert holdings.usable("n1") == []
    (found,) = known.affinities_of("n1")
    assert holdings.waits(found)
    enter(holdings)
    assert holdings.usable("n1") == [CIDR]


def test_a_confirmation_that_began_before_someone_else_wrote_the_peer_does_not_count() -> None:
    known = world()
    holdings = Holdings(known)
    before = holdings.known("n1")
    known.put("nodepeers", peer("n1", version=9))
    holdings.confirmed("n1", CIDR, before)
    assert holdings.usable("n1") == []


def test_our_own_writes_of_the_peer_do_not_undo_a_confirmation() -> None:
    known = world()
    holdings = Holdings(known)
    enter(holdings)
    with holdings.sending("n1"):
        known.put("nodepeers", peer("n1", version=7))  # a watch tells of it before its answer
        assert holdings.usable("n1") == [CIDR]
        holdings.written("n1", 7, {})
    assert holdings.usable("n1") == [CIDR]


def test_a_write_of_ours_that_was_followed_by_someone_elses_does() -> None:
    known = world()
    holdings = Holdings(known)
    enter(holdings)
    with holdings.sending("n1"):
        known.put("nodepeers", peer("n1", version=8))
        holdings.written("n1", 7, {})
    assert holdings.usable("n1") == []


def test_without_a_peer_nothing_enters() -> None:
    """That one is missing cannot be a precondition for long: it may be made and deleted meanwhile."""
    known = World()
    known.put("blockaffinities", affinity("n1", CIDR, version=4))
    holdings = Holdings(known)
    enter(holdings)
    assert holdings.usable("n1") == []
    known.put("nodepeers", peer("n1", version=5))
    assert holdings.usable("n1") == []


def test_a_block_that_left_is_not_usable_and_moves_on_as_it_was_known_then() -> None:
    known = world(named=True)
    holdings = Holdings(known)
    (then,) = known.affinities_of("n1")
    with holdings.sending("n1"):
        known.put("nodepeers", peer("n1", version=6))
        holdings.written("n1", 6, {CIDR: then})
    known.put("blockaffinities", affinity("n1", CIDR, version=9))  # someone confirmed it since
    (now,) = known.affinities_of("n1")
    assert holdings.left("n1", CIDR) is then
    assert holdings.usable("n1") == []
    assert not holdings.waits(now)
    holdings.done("n1", CIDR)
    assert holdings.left("n1", CIDR) is None
    assert holdings.waits(now)


def test_while_a_write_is_on_its_way_nothing_needs_to_be_confirmed() -> None:
    known = world()
    holdings = Holdings(known)
    (found,) = known.affinities_of("n1")
    with holdings.sending("n1"):
        assert not holdings.waits(found)
    assert holdings.waits(found)
