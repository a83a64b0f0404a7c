"""The incremental index of whom policies select, against looking at everything anew."""

from __future__ import annotations

import random

import pytest

from tortie.api.compiled import CompiledPolicySpec, Source
from tortie.api.internal import Endpoint, LabelSet, NodePeer, NodePeerSpec
from tortie.api.meta import Metadata
from tortie.api.selector import parse
from tortie.operator.keys import source_key
from tortie.operator.selection import Selection
from tortie.policy.labels import of_pod

NAMESPACES = ("red", "blue")
SELECTORS = (
    "all()",
    "app == 'a'",
    "has(tier)",
    "!has(tier)",
    "app in {'a', 'b'} && tier == 'x'",
    "pcns.team == 'one'",
    "projectcalico.org/namespace == 'red'",
    "projectcalico.org/namespace == 'blue' && app != 'a'",
    "pcsa.role == 'admin' || app == 'c'",
    "!all()",
)


class World:
    """What happens at random, and the plain answer."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.profiles: dict[str, dict[str, str]] = {}
        self.peers: dict[str, NodePeer] = {}
        self.policies: dict[str, str] = {}

    def inherited(self, source: str) -> dict[str, str]:
        return self.profiles.get(source, {})

    def label_set(self) -> LabelSet:
        labels = {key: self.rng.choice("abcx") for key in ("app", "tier") if self.rng.random() < 0.6}
        return LabelSet(labels=labels, namespace=self.rng.choice(NAMESPACES), service_account=self.rng.choice("st"))

    def peer(self) -> NodePeer:
        sets = tuple(self.label_set() for _ in range(self.rng.randint(0, 3)))
        endpoints = tuple(
            Endpoint(name=f"n/{i}", uid=str(i), addresses=("10.0.0.1",) if self.rng.random() < 0.8 else (), labels=i)
            for i in range(len(sets))
        )
        return NodePeer(metadata=Metadata(name="x"), spec=NodePeerSpec(label_sets=sets, endpoints=endpoints))

    def selected(self, selector: str) -> set[str]:
        found = set()
        for name, peer in self.peers.items():
            for endpoint in peer.spec.endpoints:
                labels = peer.spec.label_sets[endpoint.labels]
                namespace, account = labels.namespace, labels.service_account
                inherited = {
                    **self.inherited(source_key("ksa", account, namespace)),
                    **self.inherited(source_key("kns", namespace)),
                }
                effective = of_pod(labels.labels, namespace, account, inherited)
                if endpoint.addresses and parse(selector).matches(effective):
                    found.add(name)
        return found


@pytest.mark.parametrize("seed", range(20))
def test_after_any_history_nodes_are_those_that_a_look_at_everything_finds(seed: int) -> None:
    world = World(seed)
    selection = Selection(world.inherited)
    known: dict[str, set[str]] = {}
    for _ in range(150):
        touched: set[str] = set()
        match world.rng.randint(0, 4):
            case 0:
                key = world.rng.choice("pqrs")
                text = world.rng.choice(SELECTORS)
                world.policies[key] = text
                selection.policy(key, CompiledPolicySpec(source=Source(kind="gnp"), selector=parse(text).canonical))
                touched = {key}
            case 1:
                key = world.rng.choice("pqrs")
                world.policies.pop(key, None)
                selection.policy(key, None)
                touched = {key}
            case 2:
                namespace = world.rng.choice(NAMESPACES)
                source, labels = world.rng.choice(
                    [
                        (source_key("kns", namespace), {"pcns.team": world.rng.choice(["one", "two"])}),
                        (source_key("ksa", "s", namespace), {"pcsa.role": world.rng.choice(["admin", "user"])}),
                    ]
                )
                world.profiles[source] = labels
                touched = selection.profile(source)
            case _:
                name = world.rng.choice(["n1", "n2", "n3"])
                if world.rng.random() < 0.2:
                    world.peers.pop(name, None)
                    touched = selection.peer(name, None)
                else:
                    world.peers[name] = world.peer()
                    touched = selection.peer(name, world.peers[name])
        now = {key: world.selected(text) for key, text in world.policies.items()}
        assert {key: selection.nodes(key) for key in world.policies} == now
        assert {key for key in now if now[key] != known.get(key, set())} <= touched, "a change that nobody was told of"
        known = now


def test_nothing_is_kept_of_what_is_gone() -> None:
    world = World(1)
    selection = Selection(world.inherited)
    for key in "pqrs":
        selection.policy(key, CompiledPolicySpec(source=Source(kind="gnp"), selector="all()"))
    for _ in range(30):
        selection.peer("n1", world.peer())
    selection.peer("n1", None)
    for key in "pqrs":
        selection.policy(key, None)
    kept = {name: value for name, value in vars(selection).items() if isinstance(value, dict) and value}
    assert kept == {}
