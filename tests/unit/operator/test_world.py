"""What a change touches, and that indexes are what a look at everything would find."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from tortie.api.compiled import CompiledPolicy, CompiledPolicySpec, Source
from tortie.api.felix import FelixConfiguration
from tortie.api.internal import LabelSet, NodePeer, NodeState, compiled_name
from tortie.api.kubernetes import NodeCondition
from tortie.operator.world import Dirty, World, block_owner, profiles

from .things import account, affinity, block, meta, namespace, node, peer, pod, pool, reservation

replace = msgspec.structs.replace


def world(**objects: list[Any]) -> World:
    made = World()
    for kind, found in objects.items():
        made.replace(kind, {obj.metadata.key: obj for obj in found}, 1)
    return made


def compiled(kind: str, name: str, namespace: str = "", version: int = 2) -> CompiledPolicy:
    source = Source(kind=kind, name=name, namespace=namespace)
    return CompiledPolicy(
        metadata=meta(compiled_name(kind, name, namespace), version=version), spec=CompiledPolicySpec(source=source)
    )


def outputs(touched: set[Dirty], key: str) -> set[str]:
    return {dirty.output for dirty in touched if dirty.key == key}


# --- what is touched ----------------------------------------------------------------------------------------------


def test_a_pod_touches_its_nodes_peer_and_nothing_else() -> None:
    assert world().put("pods", pod("a")) == {Dirty("peer", "n1")}
    assert world().put("pods", pod("a", node="")) == set()


def test_old_news_touches_nothing() -> None:
    known = world(pods=[pod("a", version=1)])
    assert known.put("pods", pod("a", version=1)) == set()


def test_a_pod_that_was_made_anew_elsewhere_touches_both_nodes() -> None:
    known = world(pods=[pod("a", node="n1")])
    assert known.put("pods", pod("a", node="n2", uid="other", version=2)) == {Dirty("peer", "n1"), Dirty("peer", "n2")}


def test_a_nodes_heartbeat_touches_nothing() -> None:
    known = world(nodes=[node()])
    beat = NodeCondition(type="MemoryPressure", status="False")
    again = replace(node(version=2), status=replace(node().status, conditions=(beat,)))
    assert known.put("nodes", again) == set()


def test_a_node_that_is_not_heard_of_any_more_is_reported() -> None:
    ready = replace(node().status, conditions=(NodeCondition(type="Ready", status="True"),))
    known = world(nodes=[replace(node(), status=ready)])
    assert known.put("nodes", node(version=2)) == {Dirty("report", "n1")}


def test_what_somebody_else_says_of_a_nodes_network_is_reported_anew() -> None:
    known = world(nodes=[node()])
    told = replace(node().status, conditions=(NodeCondition(type="NetworkUnavailable", status="True"),))
    assert known.put("nodes", replace(node(version=2), status=told)) == {Dirty("report", "n1")}


@pytest.mark.parametrize("changed", [node(version=2, ips=["192.0.2.1"]), node(version=2, labels={"zone": "a"})])
def test_a_node_that_changes_touches_all_that_is_its(changed: Any) -> None:
    touched = world(nodes=[node()]).put("nodes", changed)
    assert outputs(touched, "n1") == {"peer", "state", "blocks", "report"}


def test_a_namespaces_labels_touch_its_profile_and_pods_only_where_pools_select_by_them() -> None:
    plain = world(namespaces=[namespace("a")], pods=[pod("p", namespace="a")], ippools=[pool("x", "10.0.0.0/16")])
    assert plain.put("namespaces", namespace("a", version=2, labels={"k": "v"})) == {Dirty("policy", "kns//a")}
    selecting = world(
        namespaces=[namespace("a")],
        pods=[pod("p", namespace="a"), pod("q", namespace="b", node="n2")],
        ippools=[pool("x", "10.0.0.0/16", namespace_selector="k == 'v'")],
    )
    touched = selecting.put("namespaces", namespace("a", version=2, labels={"k": "v"}))
    assert touched == {Dirty("policy", "kns//a"), Dirty("peer", "n1")}


def test_pods_wait_for_their_profiles() -> None:
    known = world(pods=[pod("p", namespace="a"), pod("q", namespace="b", node="n2")])
    assert Dirty("peer", "n1") in known.put("compiledpolicies", compiled("kns", "a"))
    assert Dirty("peer", "n1") in known.put("compiledpolicies", compiled("ksa", "default", "a"))
    assert Dirty("peer", "n1") not in known.put("compiledpolicies", compiled("kns", "a", version=3))
    assert Dirty("peer", "n2") not in known.put("compiledpolicies", compiled("kns", "a", version=4))


@pytest.mark.parametrize("changed", [pool("x", "10.0.0.0/16", version=2, disabled=True), reservation("10.0.0.0/28")])
def test_pools_and_reservations_touch_every_node(changed: Any) -> None:
    known = world(nodes=[node("n1"), node("n2")], ippools=[pool("x", "10.0.0.0/16")])
    touched = known.put("ippools" if changed.kind == "IPPool" else "ipreservations", changed)
    assert outputs(touched, "n1") == outputs(touched, "n2") == {"peer", "state", "blocks"}


def test_a_pools_status_touches_nothing() -> None:
    known = world(nodes=[node()], ippools=[pool("x", "10.0.0.0/16")])
    assert known.put("ippools", pool("x", "10.0.0.0/16", version=2)) == set()


def test_a_felix_configuration_touches_every_node_state() -> None:
    known = world(nodes=[node("n1"), node("n2")])
    touched = known.put("felixconfigurations", FelixConfiguration(metadata=meta("default")))
    assert touched == {Dirty("state", "n1"), Dirty("state", "n2")}


def test_blocks_touch_their_owner_and_a_freed_one_whoever_lacks_one() -> None:
    cidr = "10.0.0.0/26"
    known = world()
    assert outputs(known.put("blockaffinities", affinity("n1", cidr)), "n1") == {"peer", "state", "blocks"}
    assert outputs(known.put("ipamblocks", block("n1", cidr)), "n1") == {"peer", "state", "blocks"}
    assert Dirty("room", "") in known.gone("blockaffinities", affinity("n1", cidr).metadata.name, 9)


def test_a_peer_that_stops_speaking_of_a_profile_touches_it() -> None:
    known = world(nodepeers=[peer("n1", {"a": ["10.0.0.1"]})])
    assert known.spoken_of("kns//default")
    touched = known.put("nodepeers", peer("n1", version=2))
    assert {Dirty("policy", "kns//default"), Dirty("policy", "ksa/default/default")} <= touched
    assert not known.spoken_of("kns//default")


def test_a_node_state_touches_what_waits_for_its_agent() -> None:
    touched = world().put("nodestates", NodeState(metadata=meta("n1")))
    assert outputs(touched, "n1") == {"state", "report", "blocks"}


# --- absence ------------------------------------------------------------------------------------------------------


def test_an_entry_without_a_pod_is_unaccounted_for_until_the_pod_was_seen() -> None:
    known = world(nodepeers=[peer("n1", {"a": ["10.0.0.1"], "b": ["10.0.0.2"]})], pods=[pod("b")])
    assert [entry.name for entry in known.unaccounted("n1")] == ["default/a"]
    known.put("pods", pod("a", node="", version=2), told=True)  # as it was before it was scheduled
    assert [entry.name for entry in known.unaccounted("n1")] == ["default/a"]
    known.put("pods", pod("a", version=3), told=True)
    assert known.unaccounted("n1") == []


@pytest.mark.parametrize("how", ["deleted", "made anew", "known otherwise"])
def test_a_pod_that_was_seen_to_be_gone_is_accounted_for(how: str) -> None:
    known = world(nodepeers=[peer("n1", {"a": ["10.0.0.1"]})], pods=[pod("a")])
    match how:
        case "deleted":
            known.gone("pods", "default/a", 5)
        case "made anew":
            known.put("pods", pod("a", uid="other", version=5), told=True)
        case _:
            known.remove("pods", pod("a"))
    assert known.unaccounted("n1") == []


def test_departed_pods_are_forgotten_with_their_entries() -> None:
    known = world(nodepeers=[peer("n1", {"a": ["10.0.0.1"]})], pods=[pod("a")])
    known.gone("pods", "default/a", 5)
    known.put("nodepeers", peer("n1", version=6))
    known.put("nodepeers", peer("n1", {"a": ["10.0.0.1"]}, version=7))
    assert [entry.name for entry in known.unaccounted("n1")] == ["default/a"]
    assert known._departed == {}


# --- indexes ------------------------------------------------------------------------------------------------------

NODES = ("n1", "n2", "n3")


def random_object(rng: random.Random, kind: str, version: int) -> Any:
    name, home = rng.choice("abcd"), rng.choice(NODES)
    cidr = f"10.0.0.{rng.randrange(4) * 4}/30"
    match kind:
        case "pods":
            uid = f"uid-{name}-{rng.randrange(2)}"
            phase = rng.choice(("", "Running", "Failed"))
            found = pod(name, rng.choice(("", home)), uid=uid, version=version, phase=phase)
            return replace(found, metadata=replace(found.metadata, namespace=rng.choice(("red", "blue"))))
        case "blockaffinities":
            state = rng.choice(("pending", "confirmed", "pendingDeletion"))
            return affinity(home, cidr, state, version=version, kind=rng.choice(("host", "host", "virtual")))
        case "ipamblocks":
            return block(rng.choice(("", home)), cidr, version=version)
        case "nodepeers":
            sets = tuple(LabelSet(namespace=rng.choice(("red", "blue")), service_account="s") for _ in range(2))
            found_peer = peer(home, {name: ["10.0.0.1"]}, version=version)
            return replace(found_peer, spec=replace(found_peer.spec, label_sets=sets[: rng.randrange(3)]))
        case "ippools":
            return pool(name, rng.choice(("10.0.0.0/16", "10.0.1.0/24", "10.1.0.0/16")), version=version)
        case "ipreservations":
            return reservation(*rng.sample(("10.0.0.0/30", "10.0.0.4/30", "10.0.9.9/24"), 2), version=version)
        case _:
            return account(name, version=version)


def views(of: World) -> dict[str, Any]:
    """Everything that is kept up to date, as it is told."""
    return {
        "pods": {name: of.pods_of(name) for name in NODES},
        "affinities": {name: of.affinities_of(name) for name in NODES},
        "releasing": {name: of.releasing(name) for name in NODES},
        "blocks": {name: of.blocks_of(name) for name in NODES},
        "spoken": {key: of.spoken_of(key) for key in ("kns//red", "kns//blue", "ksa/red/s", "ksa/blue/s")},
        "references": dict(of._references),
        "namespaces": {name: of._nodes_of(name) for name in ("red", "blue")},
        "overlapped": of.overlapped,
        "reserved": of.reserved,
    }


@pytest.mark.parametrize("seed", range(60))
def test_indexes_equal_those_of_a_world_made_from_scratch(seed: int) -> None:
    rng = random.Random(seed)
    grown = World()
    kinds = ("pods", "blockaffinities", "ipamblocks", "nodepeers", "ippools", "ipreservations", "serviceaccounts")
    for version in range(1, 150):
        kind = rng.choice(kinds)
        known = [obj.metadata.key for obj in grown.shelves[kind]]
        match rng.choice(("put", "put", "put", "told", "gone", "remove", "replace")):
            case "gone" if known:
                grown.gone(kind, rng.choice(known), version)
            case "remove" if known:
                grown.remove(kind, grown.shelves[kind].get(rng.choice(known)))
            case "replace":
                some = [random_object(rng, kind, version) for _ in range(rng.randrange(4))]
                grown.replace(kind, {obj.metadata.key: obj for obj in some}, version)
            case how:
                grown.put(kind, random_object(rng, kind, version), told=how == "told")
    fresh = World()
    for kind in kinds:
        fresh.replace(kind, {obj.metadata.key: obj for obj in grown.shelves[kind]}, 10_000)
    assert views(grown) == views(fresh)


@pytest.mark.parametrize("seed", range(20))
def test_references_are_what_counting_finds(seed: int) -> None:
    rng = random.Random(seed)
    grown = World()
    for version in range(1, 60):
        if rng.random() < 0.8:
            grown.put("nodepeers", random_object(rng, "nodepeers", version))
        else:
            grown.gone("nodepeers", rng.choice(NODES), version)
    peers: list[NodePeer] = list(grown.peers)
    for key in {key for found in peers for key in profiles(found)} | {"kns//red", "ksa/blue/s"}:
        assert grown.spoken_of(key) == any(key in profiles(found) for found in peers)


def test_only_host_blocks_have_an_owner() -> None:
    virtual = block("n1", "10.0.0.0/26")
    assert block_owner(virtual) == "n1"
    assert block_owner(replace(virtual, spec=replace(virtual.spec, affinity="virtual:load-balancer"))) == ""
    assert block_owner(replace(virtual, spec=replace(virtual.spec, affinity=""))) == ""
