"""What rules on a node, whatever the order in which five streams arrive."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tortie.api.internal import (
    FORMAT,
    CompiledNetworkSet,
    CompiledNetworkSetSpec,
    CompiledPolicy,
    CompiledPolicySpec,
    CompiledTier,
    CompiledTierSpec,
    NodePeer,
    NodePeerSpec,
    NodeState,
    NodeStateSpec,
    NodeStateStatus,
    Source,
)
from tortie.api.meta import Metadata
from tortie.nodeagent.adoption import KINDS, Adoption, Gone, Listed, Object, Passed, Put
from tortie.nodeagent.last import Kept, restored

POLICIES, PEERS, SETS, TIERS, STATES = (
    "compiledpolicies",
    "nodepeers",
    "compilednetworksets",
    "compiledtiers",
    "nodestates",
)


def policy(name: str, version: int, after: dict[str, int] | None = None, format: int = FORMAT) -> CompiledPolicy:
    spec = CompiledPolicySpec(source=Source(kind="kns", generation=version), after=after or {}, format=format)
    return CompiledPolicy(metadata=Metadata(name=name, resource_version=str(version)), spec=spec)


def peer(name: str, version: int, after: dict[str, int] | None = None) -> NodePeer:
    spec = NodePeerSpec(uid=str(version), after=after or {})
    return NodePeer(metadata=Metadata(name=name, resource_version=str(version)), spec=spec)


def complete() -> Adoption:
    adoption = Adoption()
    for kind in KINDS:
        adoption.take(kind, Listed({}, 1))
    return adoption


def version(adoption: Adoption, kind: str, key: str) -> int:
    obj = adoption.streams[kind].adopted.get(key)
    return obj.metadata.version if obj else 0


def put(adoption: Adoption, kind: str, obj: Object) -> None:
    adoption.take(kind, Put(obj, obj.metadata.version))


def test_a_peer_waits_for_the_policies_that_its_stamp_names() -> None:
    adoption = complete()
    put(adoption, PEERS, peer("n", 5))
    put(adoption, PEERS, peer("n", 12, {POLICIES: 10}))
    assert version(adoption, PEERS, "n") == 5
    assert list(adoption.waits()) == [(PEERS, "n", {POLICIES: 10})]
    adoption.take(POLICIES, Passed(9))
    assert version(adoption, PEERS, "n") == 5
    assert adoption.streams[PEERS].settled() == 11
    put(adoption, POLICIES, policy("p", 10))
    assert version(adoption, PEERS, "n") == 12
    assert not list(adoption.waits())
    assert adoption.streams[PEERS].settled() == 12


def test_a_bookmark_or_a_list_passes_a_stamp_too() -> None:
    for passing in (Passed(10), Listed({}, 11)):
        adoption = complete()
        put(adoption, PEERS, peer("n", 12, {POLICIES: 10}))
        assert version(adoption, PEERS, "n") == 0
        adoption.take(POLICIES, passing)
        assert version(adoption, PEERS, "n") == 12


def test_a_policy_that_waits_itself_is_not_passed() -> None:
    """Its version was seen, but is not in force: a peer must not be judged without it."""
    adoption = complete()
    put(adoption, POLICIES, policy("p", 10, {PEERS: 8}))
    put(adoption, PEERS, peer("other", 7))
    adoption.take(SETS, Passed(20))
    assert version(adoption, POLICIES, "p") == 0
    adoption.streams[PEERS].position = 7
    put(adoption, PEERS, peer("n", 12, {POLICIES: 10, SETS: 30}))
    assert version(adoption, PEERS, "n") == 0
    adoption.take(SETS, Passed(30))
    assert version(adoption, POLICIES, "p") == 10
    assert version(adoption, PEERS, "n") == 12


def test_objects_that_wait_for_each_other_are_adopted_together() -> None:
    """The peer was written for the policy's noise key (8), seen only as 12, which wants that policy (10)."""
    adoption = complete()
    seen: list[tuple[int, int]] = []
    put(adoption, POLICIES, policy("p", 10, {PEERS: 8}))
    adoption.take(PEERS, Listed({"n": peer("n", 12, {POLICIES: 11})}, 12))
    assert (version(adoption, POLICIES, "p"), version(adoption, PEERS, "n")) == (0, 0)
    adoption.changes.clear()
    adoption.take(POLICIES, Passed(11))
    seen.append((version(adoption, POLICIES, "p"), version(adoption, PEERS, "n")))
    assert seen == [(10, 12)]
    assert [change.kind for change in adoption.changes] == [POLICIES, PEERS]


def test_a_deletion_takes_effect_at_once_and_ends_waiting() -> None:
    adoption = complete()
    put(adoption, PEERS, peer("n", 5))
    put(adoption, PEERS, peer("n", 12, {POLICIES: 10}))
    adoption.take(PEERS, Gone("n", 13))
    adoption.take(POLICIES, Passed(20))
    assert adoption.streams[PEERS].adopted == {}
    assert not list(adoption.waits())


def test_a_report_of_our_own_changes_nothing() -> None:
    adoption = complete()
    state = NodeState(metadata=Metadata(name="n", generation=1, resource_version="3"), spec=NodeStateSpec(uid="u"))
    put(adoption, STATES, state)
    changed = adoption.streams[STATES].changed
    adoption.changes.clear()
    reported = msgspec.structs.replace(
        state,
        metadata=msgspec.structs.replace(state.metadata, resource_version="4"),
        status=NodeStateStatus(generation=1),
    )
    put(adoption, STATES, reported)
    assert (adoption.streams[STATES].changed, adoption.changes) == (changed, [])
    assert adoption.streams[STATES].position == 4


def test_formats_one_apart_are_adopted_and_others_are_refused() -> None:
    adoption = complete()
    put(adoption, POLICIES, policy("p", 2, format=FORMAT + 1))
    assert version(adoption, POLICIES, "p") == 2
    put(adoption, POLICIES, policy("p", 3, format=FORMAT + 2))
    assert version(adoption, POLICIES, "p") == 2
    assert set(adoption.streams[POLICIES].refused) == {"p"}
    assert adoption.streams[POLICIES].settled() == 2
    put(adoption, POLICIES, policy("p", 4))
    assert version(adoption, POLICIES, "p") == 4
    assert not adoption.streams[POLICIES].refused


def test_after_a_restored_etcd_all_kinds_are_adopted_at_once() -> None:
    adoption = complete()
    put(adoption, POLICIES, policy("p", 50))
    put(adoption, PEERS, peer("n", 60, {POLICIES: 50}))
    put(adoption, PEERS, peer("n", 70, {POLICIES: 65}))
    assert adoption.take(PEERS, Listed({"n": peer("n", 20, {POLICIES: 19})}, 30, rewound=True))
    assert adoption.restoring
    assert version(adoption, PEERS, "n") == 60
    put(adoption, POLICIES, policy("q", 80))  # still of the past that was undone
    for kind in (TIERS, SETS, STATES):
        assert not adoption.take(kind, Listed({}, 31))
    put(adoption, PEERS, peer("m", 32))  # on top of the fresh list
    assert version(adoption, PEERS, "n") == 60
    assert not adoption.take(POLICIES, Listed({"p": policy("p", 18)}, 31))
    assert not adoption.restoring
    assert (version(adoption, PEERS, "n"), version(adoption, POLICIES, "p")) == (20, 18)
    assert version(adoption, PEERS, "m") == 32
    assert set(adoption.streams[POLICIES].adopted) == {"p"}
    assert adoption.streams[PEERS].position == 32


def test_a_list_older_than_what_was_on_disk_is_rewound_too() -> None:
    adoption = complete()
    put(adoption, PEERS, peer("n", 60))
    again = Adoption(through_disk(adoption))
    assert again.take(PEERS, Listed({}, 30))
    assert version(again, PEERS, "n") == 60


def test_a_torn_copy_on_disk_makes_a_peer_wait() -> None:
    """NodePeers written, policies not: what cannot be proved does not rule."""
    files = {kind: Kept[Any](position=5, changed=5, adopted=[]) for kind in (POLICIES, SETS, TIERS, STATES)} | {
        PEERS: Kept[Any](position=12, changed=12, adopted=[peer("n", 12, {POLICIES: 10})])
    }
    adoption = Adoption(restored(files))
    assert version(adoption, PEERS, "n") == 0
    adoption.take(POLICIES, Listed({}, 12))
    assert version(adoption, PEERS, "n") == 12


def through_disk(adoption: Adoption) -> dict[str, Any]:
    files = {}
    for kind, stream in adoption.streams.items():
        if stream.complete:
            kept = Kept(
                stream.position,
                stream.changed,
                list(stream.adopted.values()),
                list(stream.waiting.values()),
                list(stream.refused.values()),
            )
            files[kind] = msgspec.json.decode(msgspec.json.encode(kept), type=Kept[KINDS[kind]])  # type: ignore[misc]
    return restored(files)


class History:
    """What an operator that keeps the rules writes, revision after revision, and what each version relies on."""

    def __init__(self) -> None:
        self.revision = 1
        self.events: dict[str, list[Put | Gone]] = {kind: [] for kind in KINDS}
        self.marks = {SETS: 0, TIERS: 0, POLICIES: 0}
        self.peer_mark = 0
        self.now: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
        self.needs: dict[tuple[str, int], dict[tuple[str, str], int]] = {}
        """(kind, version) → (kind, key) → version that must rule whenever this one does."""
        self.deleted: dict[tuple[str, str], list[int]] = {}

    def write(self, kind: str, obj: Object) -> None:
        self.now[kind][obj.metadata.name] = obj
        self.events[kind].append(Put(obj, self.revision))
        if kind in self.marks:
            self.marks[kind] = self.revision
        if kind == PEERS:
            self.peer_mark = self.revision

    def write_policy(self, key: str, noise: bool) -> None:
        """`noise`: it is the first to name a noise key, so all peers are written before it."""
        if noise:
            for name in list(self.now[PEERS]):
                self.write_peer(name)
        self.revision += 1
        after = {SETS: self.marks[SETS], TIERS: self.marks[TIERS]}
        needs = {(SETS, k): o.metadata.version for k, o in self.now[SETS].items()}
        if noise:
            after[PEERS] = self.peer_mark
            needs |= {(PEERS, k): o.metadata.version for k, o in self.now[PEERS].items()}
        self.needs[POLICIES, self.revision] = needs
        self.write(POLICIES, policy(key, self.revision, after))

    def write_peer(self, key: str) -> None:
        self.revision += 1
        self.needs[PEERS, self.revision] = {
            (kind, k): o.metadata.version for kind in (POLICIES, SETS, TIERS) for k, o in self.now[kind].items()
        }
        self.write(PEERS, peer(key, self.revision, dict(self.marks)))

    def write_plain(self, kind: str, key: str) -> None:
        self.revision += 1
        meta = Metadata(name=key, resource_version=str(self.revision))
        if kind == SETS:
            self.write(kind, CompiledNetworkSet(metadata=meta, spec=CompiledNetworkSetSpec(nets=(str(self.revision),))))
        else:
            self.write(kind, CompiledTier(metadata=meta, spec=CompiledTierSpec(order=float(self.revision))))

    def delete(self, kind: str, key: str) -> None:
        if key in self.now[kind]:
            self.revision += 1
            del self.now[kind][key]
            self.deleted.setdefault((kind, key), []).append(self.revision)
            self.events[kind].append(Gone(key, self.revision))
            if kind in self.marks:
                self.marks[kind] = self.revision


def at(history: History, kind: str, revision: int) -> dict[str, Object]:
    """The objects of a kind as a list at `revision` shows them."""
    found: dict[str, Object] = {}
    for event in history.events[kind]:
        if event.version > revision:
            break
        if isinstance(event, Put):
            found[event.obj.metadata.name] = event.obj
        else:
            found.pop(event.key, None)
    return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("policy"), st.sampled_from("pqr"), st.booleans()),
        st.tuples(st.just("peer"), st.sampled_from("lmn"), st.just(False)),
        st.tuples(st.just(SETS), st.sampled_from("st"), st.just(False)),
        st.tuples(st.just(TIERS), st.sampled_from("t"), st.just(False)),
        st.tuples(st.just("delete " + POLICIES), st.sampled_from("pqr"), st.just(False)),
        st.tuples(st.just("delete " + PEERS), st.sampled_from("lmn"), st.just(False)),
        st.tuples(st.just("delete " + SETS), st.sampled_from("st"), st.just(False)),
    ),
    max_size=25,
)


def write(steps: list[tuple[str, str, bool]]) -> History:
    history = History()
    for what, key, noise in steps:
        if what == "policy":
            history.write_policy(key, noise)
        elif what == "peer":
            history.write_peer(key)
        elif what.startswith("delete "):
            history.delete(what.removeprefix("delete "), key)
        else:
            history.write_plain(what, key)
    return history


def check(history: History, adoption: Adoption) -> None:
    """Whatever rules, all that it relies on rules as well, in that version or a later one, or is deleted since."""
    for kind in (PEERS, POLICIES):
        for obj in adoption.streams[kind].adopted.values():
            for (other, key), needed in history.needs[kind, obj.metadata.version].items():
                there = version(adoption, other, key)
                gone = any(needed < deleted for deleted in history.deleted.get((other, key), []))
                assert there >= needed or gone, f"{kind} {obj.metadata.version} without {other}/{key} {needed}"


@settings(max_examples=400, deadline=None)
@given(steps=STEPS, data=st.data())
def test_nothing_rules_without_what_it_relies_on(steps: list[tuple[str, str, bool]], data: st.DataObject) -> None:
    history = write(steps)
    adoption = Adoption()
    positions: dict[str, int] = {}
    while any(positions.get(kind, 0) < history.revision for kind in KINDS):
        behind = [kind for kind in KINDS if positions.get(kind, 0) < history.revision]
        kind = data.draw(st.sampled_from(behind))
        position = positions.get(kind)
        move = data.draw(st.sampled_from(("event", "bookmark", "list", "restart")))
        if move == "restart":
            adoption = Adoption(through_disk(adoption))
            positions = {}
            check(history, adoption)
            continue
        floor = max(position or 0, adoption.streams[kind].position)
        coming = [e for e in history.events[kind] if e.version > floor]
        if move == "list" or position is None:
            position = data.draw(st.integers(floor, history.revision))
            assert not adoption.take(kind, Listed(at(history, kind, position), position))
        elif move == "event" and coming:
            position = coming[0].version
            adoption.take(kind, coming[0])
        else:
            position = coming[0].version - 1 if coming else history.revision
            adoption.take(kind, Passed(position))
        positions[kind] = position
        check(history, adoption)
    for kind in KINDS:
        assert adoption.streams[kind].adopted == history.now[kind]
        assert not adoption.streams[kind].waiting
