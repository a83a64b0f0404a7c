"""Writes of internal objects, over a network that loses answers, at a server with exact optimistic concurrency."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import msgspec
import pytest

from tortie.api.compiled import CompiledPolicy, CompiledPolicySpec, Source
from tortie.api.internal import NodePeer, NodePeerSpec, NodeState, NodeStateSpec
from tortie.api.meta import Metadata
from tortie.kube.client import ApiError, Conflict
from tortie.kube.resources import COMPILED_POLICIES, NODE_PEERS, NODE_STATES
from tortie.operator.world import Dirty, World
from tortie.operator.writer import Superseded, Writer, meta

from ...property.operator.apiserver import ApiServer
from ...property.operator.network import Weather, Wire
from ...property.operator.virtual import run
from .things import node, peer

POLICY = CompiledPolicySpec(source=Source(kind="kns", name="a"))


class Stage:
    def __init__(self, epoch: int = 3) -> None:
        self.server = ApiServer()
        self.weather = Weather()
        self.world = World()
        self.touched: list[Dirty] = []
        self.requests: list[str] = []
        self.wire = Wire(self.server, self.weather, Random(0), lambda what, key: self.requests.append(what))
        self.writer = Writer(self.wire, self.world, epoch, self.touched.extend)  # type: ignore[arg-type]

    async def policy(self, name: str = "kns.a", spec: CompiledPolicySpec = POLICY) -> CompiledPolicy:
        published = self.world.policies.get(name)
        obj = CompiledPolicy(metadata=meta(name, published), spec=self.writer.stamped(spec))
        return await self.writer.write(COMPILED_POLICIES, published, obj)

    async def peer(self, spec: NodePeerSpec | None = None) -> NodePeer:
        published = self.world.peers.get("n1")
        obj = NodePeer(metadata=meta("n1", published), spec=self.writer.stamped(spec or NodePeerSpec()))
        return await self.writer.write(NODE_PEERS, published, obj)

    def elsewhere(self, **spec: Any) -> None:
        """Someone else writes NodePeer n1."""
        known = self.server.kind("nodepeers").get("n1")
        if known is None:
            self.server.create(NODE_PEERS, NodePeer(metadata=Metadata(name="n1"), spec=NodePeerSpec(**spec)))
        else:
            self.server.edit(NODE_PEERS, "n1", spec=NodePeerSpec(**spec))


def staged(test: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
    """In virtual time."""

    def ran() -> None:
        async def begin() -> None:
            await test(Stage())

        run(begin())

    ran.__name__ = test.__name__  # type: ignore[attr-defined]
    return ran


@staged
async def test_what_was_acknowledged_is_in_the_world_and_in_the_next_stamp(stage: Stage) -> None:
    written = await stage.policy()
    assert stage.world.policies.get("kns.a") == written
    found = await stage.peer()
    assert found.spec.after == {"compiledpolicies": written.metadata.version}
    assert found.spec.epoch == 3


@staged
async def test_a_stamp_names_the_peers_only_where_asked(stage: Stage) -> None:
    found = await stage.peer()
    assert "nodepeers" not in stage.writer.stamped(POLICY).after
    assert stage.writer.stamped(POLICY, after_peers=True).after == {"nodepeers": found.metadata.version}


@pytest.mark.parametrize("lost", ["unanswered", "refused"])
def test_a_write_whose_answer_was_lost_is_found_and_counts_in_the_next_stamp(lost: str) -> None:
    """Rule 3: an agent must not adopt the NodePeer before a policy that was written, acknowledged or not."""

    async def unlucky() -> None:
        stage = Stage()
        stage.wire.stepped = lambda what, key: setattr(stage.weather, lost, 0.0)  # the read that follows goes well
        for number in range(30):
            setattr(stage.weather, lost, 1.0)
            with contextlib.suppress(ApiError):
                await stage.policy(spec=msgspec.structs.replace(POLICY, order=float(number)))
            setattr(stage.weather, lost, 0.0)  # a refusal may be all there is
            if published := stage.server.kind("compiledpolicies").get("kns.a"):
                spec = NodePeerSpec(uid=str(number))
                known = stage.world.policies.get("kns.a")
                assert known is None or known.metadata.version <= published.metadata.version
                if known is not None and known.metadata == published.metadata:
                    found.append((await stage.peer(spec)).spec.after == {"compiledpolicies": known.metadata.version})

    found: list[bool] = []
    run(unlucky())
    assert len(found) > 10
    assert all(found)


@staged
async def test_after_a_conflict_what_is_there_is_in_the_world_and_nothing_is_sent_again(stage: Stage) -> None:
    await stage.peer()
    stage.elsewhere(epoch=2, uid="theirs")
    stage.requests.clear()
    with pytest.raises(Conflict):
        await stage.peer(NodePeerSpec(uid="ours"))
    assert stage.requests == ["replace nodepeers", "get nodepeers"]
    known = stage.world.peers.get("n1")
    assert known is not None
    assert known.spec.uid == "theirs"
    assert (await stage.peer(NodePeerSpec(uid="ours"))).spec.uid == "ours"  # computed from that version


@staged
async def test_one_that_exists_or_is_gone_counts_as_a_conflict(stage: Stage) -> None:
    stage.elsewhere(epoch=1, uid="theirs")
    with pytest.raises(Conflict):
        await stage.peer()
    stage.server.delete(NODE_PEERS, "n1")
    with pytest.raises(Conflict):
        await stage.peer(NodePeerSpec(uid="ours"))
    assert "n1" not in stage.world.peers
    await stage.peer()


@staged
async def test_a_higher_epoch_at_a_conflict_ends_the_term(stage: Stage) -> None:
    await stage.peer()
    stage.elsewhere(epoch=4)
    with pytest.raises(Superseded, match="epoch 4"):
        await stage.peer(NodePeerSpec(uid="ours"))


@pytest.mark.parametrize(("epoch", "superseded"), [(2, False), (3, True), (4, True)])
def test_a_term_begins_only_above_everything_that_is_published(epoch: int, superseded: bool) -> None:
    """Also of our own epoch nothing can be there: a Lease that was deleted may have been made anew with it."""
    stage = Stage(epoch=3)
    state = NodeState(metadata=Metadata(name="n1", resource_version="5"), spec=NodeStateSpec(epoch=epoch))
    stage.world.put("nodestates", state)
    if superseded:
        with pytest.raises(Superseded):
            stage.writer.adopt()
    else:
        stage.writer.adopt()


@staged
async def test_a_deletion_is_of_the_version_that_was_known(stage: Stage) -> None:
    known = await stage.peer()
    stage.elsewhere(epoch=2, uid="theirs")
    with pytest.raises(Conflict):
        await stage.writer.delete(NODE_PEERS, known)
    found = stage.world.peers.get("n1")
    assert found is not None
    await stage.writer.delete(NODE_PEERS, found)
    assert stage.server.kind("nodepeers") == {}
    assert len(stage.world.peers) == 0
    await stage.writer.delete(NODE_PEERS, found)  # gone already


@staged
async def test_what_was_made_anew_meanwhile_outlives_the_answer_to_the_deletion(stage: Stage) -> None:
    known = await stage.peer()

    def anew(what: str, key: str) -> None:
        if what == "delete nodepeers":
            stage.server.delete(NODE_PEERS, "n1")
            stage.elsewhere(epoch=2, uid="theirs")
            stage.world.put("nodepeers", stage.server.kind("nodepeers")["n1"], told=True)
            stage.server.delete(NODE_PEERS, "n1")
            stage.elsewhere(epoch=2, uid="again")
            stage.world.put("nodepeers", stage.server.kind("nodepeers")["n1"], told=True)

    stage.wire.stepped = anew
    with pytest.raises(Conflict):
        await stage.writer.delete(NODE_PEERS, known)
    found = stage.world.peers.get("n1")
    assert found is not None
    assert found.spec.uid == "again"


@staged
async def test_a_node_peer_on_its_way_speaks_of_its_profiles(stage: Stage) -> None:
    seen: list[bool] = []
    stage.wire.stepped = lambda what, key: seen.append(stage.writer.speaking_of("kns//default"))
    await stage.peer(peer("n1", {"a": ["10.0.0.1"]}).spec)
    assert seen == [True]
    assert not stage.writer.speaking_of("kns//default")


@staged
async def test_its_own_node_state_costs_each_node_one_event_and_all_else_one_on_every_node(stage: Stage) -> None:
    for number in range(1000):
        stage.world.put("nodes", node(f"n{number}"))
    costs: list[int] = []

    async def take(nodes: int) -> None:
        costs.append(nodes)

    stage.writer._pace.take = take  # type: ignore[method-assign]
    state = NodeState(metadata=Metadata(name="n1"), spec=stage.writer.stamped(NodeStateSpec()))
    await stage.writer.write(NODE_STATES, None, state)
    await stage.peer()
    await stage.policy()
    assert costs == [1, 1000, 1000]
