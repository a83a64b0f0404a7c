"""The programs against the reference evaluator: random clusters, policies of all kinds, every packet of a universe."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tortie.nodeagent.maps.layout import FROM_POD, TO_POD
from tortie.nodeagent.policy.image import image
from tortie.policy.build import build, records
from tortie.policy.cluster import Endpoint
from tortie.policy.judge import ALLOW

from ..property.policy.objects import Json
from ..property.policy.policies import clusters
from ..property.policy.universe import PACKETS
from .expected import expected, frame
from .judging import UNSPEC, Judge, judge

PER_CLUSTER = 250
CLUSTERS = 200
chances = st.integers(0, 2**32).map(random.Random)
"""How often one is asked depends on numbers that the maps have got before, which Hypothesis must not notice."""
seen = {"packets": 0}


@pytest.fixture(scope="module")
def bench(bpf_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(bpf_dir, tmp_path_factory.mktemp("bpffs")) as made:
        yield made


def chosen(endpoint: Endpoint, direction: str, count: int, chance: random.Random) -> list[int]:
    """Packets from or to it, not to itself, some of them twice as likely to be let through."""
    own = {str(address) for address in endpoint.addresses}
    mine = [
        index
        for index, (source, destination, _) in enumerate(PACKETS)
        if (source if direction == "Egress" else destination) in own
        and (destination if direction == "Egress" else source) not in own
    ]
    return chance.sample(mine, min(count, len(mine)))


@given(documents=clusters(), chance=chances)
@settings(
    max_examples=CLUSTERS,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
def test_program_and_evaluator_agree_on_verdict_and_rule(
    bench: Judge, documents: list[Json], chance: random.Random
) -> None:
    cluster, _ = build(records(documents))
    endpoints = [each for each in cluster.endpoints if not each.is_host and each.addresses]
    for endpoint in endpoints:
        made = image(cluster, {"lo": endpoint})
        bench.enforce(made, "lo")
        texts = {address.version: str(address) for address in endpoint.addresses}
        bench.endpoint(texts.get(4, ""), texts.get(6, ""))
        for direction, stack in zip(("Ingress", "Egress"), made.stacks["lo"], strict=True):
            program = TO_POD if direction == "Ingress" else FROM_POD
            steps = {atom.entry.id: atom.entry.step for atom in stack.atoms}
            bench.forget_flows()
            for index in chosen(endpoint, direction, PER_CLUSTER // (2 * len(endpoints)) + 1, chance):
                wanted = expected(cluster, endpoint, direction, index)
                result = bench.run(program, frame(*PACKETS[index]))
                if result.verdict == UNSPEC:
                    bench.forget_flows()
                found = steps.get(bench.rule(result.rule))
                what = (endpoint.name, direction, PACKETS[index])
                assert found == wanted, what
                assert (result.verdict == UNSPEC) == (wanted.action == ALLOW), what
                seen["packets"] += 1


def test_fifty_thousand_packets_were_judged() -> None:
    assert seen["packets"] >= 50_000
