"""Between any two writes of a change a packet is judged by the policy before or by the one after, whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tortie.nodeagent.maps.layout import FROM_POD, TO_POD
from tortie.nodeagent.policy.image import Image, image
from tortie.nodeagent.policy.writes import Fence, Write
from tortie.policy.build import build, records
from tortie.policy.cluster import Cluster
from tortie.policy.judge import Step

from ..property.policy.objects import POD_ADDRESSES, Json
from ..property.policy.policies import clusters
from ..property.policy.universe import PACKETS
from .expected import expected, frame
from .judging import DEVICE, Judge, judge

IPV4, IPV6 = POD_ADDRESSES[0]
chances = st.integers(0, 2**32).map(random.Random)
"""How often one is asked depends on numbers that the maps have got before, which Hypothesis must not notice."""
PROBES = 6
"""Packets that are judged after each write."""


@pytest.fixture(scope="module")
def bench(bpf_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with judge(bpf_dir, tmp_path_factory.mktemp("bpffs")) as made:
        made.endpoint(IPV4, IPV6)
        yield made


Probe = tuple[str, int]
"""Direction and packet."""


def made(documents: list[Json]) -> tuple[Cluster, Image]:
    """The pod with our addresses is pod0."""
    cluster, _ = build(records(documents))
    endpoint = next(each for each in cluster.endpoints if each.name.endswith("/pod0"))
    return cluster, image(cluster, {"lo": endpoint})


def steps(cluster: Cluster, probes: list[Probe]) -> dict[Probe, Step]:
    endpoint = next(each for each in cluster.endpoints if each.name.endswith("/pod0"))
    return {probe: expected(cluster, endpoint, *probe) for probe in probes}


def probes(chance: random.Random) -> list[Probe]:
    mine = {IPV4, IPV6}
    ingress = [("Ingress", i) for i, (source, to, _) in enumerate(PACKETS) if to in mine and source not in mine]
    egress = [("Egress", i) for i, (source, to, _) in enumerate(PACKETS) if source in mine and to not in mine]
    return chance.sample(ingress, PROBES // 2) + chance.sample(egress, PROBES // 2)


def names(image: Image) -> dict[str, Step]:
    """By id."""
    return {atom.entry.id: atom.entry.step for stack in image.stacks["lo"] for atom in stack.atoms}


def found(bench: Judge, probe: Probe, known: dict[str, Step], slots: dict[int, str]) -> Step | None:
    direction, packet = probe
    bench.forget_flows()
    result = bench.run(TO_POD if direction == "Ingress" else FROM_POD, frame(*PACKETS[packet]))
    return known.get(slots.get(result.rule, ""))


def slots(bench: Judge) -> dict[int, str]:
    return {slot: name for name, slot in bench.columns.placer.slots.items()}


@given(histories=st.lists(clusters(), min_size=2, max_size=4), chance=chances)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_packet_meets_half_a_change(bench: Judge, histories: list[list[Json]], chance: random.Random) -> None:
    cluster, before = made(histories[0])
    bench.enforce(before, "lo")
    for documents in histories[1:]:
        if chance.random() < 0.4:
            bench.adopt()  # another agent, which knows nothing of the numbers of the one before
        asked = probes(chance)
        old, known, known_slots = steps(cluster, asked), names(before), slots(bench)
        for probe in asked:
            assert found(bench, probe, known, known_slots) == old[probe]
        cluster, after = made(documents)
        new = steps(cluster, asked)
        change = bench.columns.change(after, {"lo": DEVICE})
        # What the maps say of a rule's counter before is forgotten by the agent once it is no rule's.
        both, both_slots = {**known, **names(after)}, {**known_slots, **slots(bench)}
        switched = False
        writes: list[Write] = [*change.writes, *change.afterwards]
        for write in writes:
            bench.maps.make([write])
            if isinstance(write, Fence):
                continue
            switched = switched or write is change.writes[-1]
            for probe in chance.sample(asked, 2):
                step = found(bench, probe, both, both_slots)
                assert step == (new if switched else old)[probe], (write, probe)
        before = after


@given(documents=clusters(), chance=chances)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_after_a_restart_the_same_policy_is_in_force_and_nothing_is_lost_of_the_maps(
    bench: Judge, documents: list[Json], chance: random.Random
) -> None:
    cluster, wanted = made(documents)
    bench.enforce(wanted, "lo")
    for _ in range(3):
        bench.adopt()
        bench.enforce(wanted, "lo")
        asked = probes(chance)
        expect = steps(cluster, asked)
        for probe in asked:
            assert found(bench, probe, names(wanted), slots(bench)) == expect[probe]
    placer, stacks = bench.columns.placer, set(wanted.stacks["lo"])
    assert free(placer.stacks) == placer.stacks.size - 1 - len(stacks)
    assert free(placer.atoms) == placer.atoms.size - sum(len(stack.atoms) for stack in stacks)
    rows = sum(len(stack.constrained) for stack in stacks) * bench.columns.rooms[bench.columns.column]
    assert free(placer.rows) == placer.rows.size - rows


def free(blocks: object) -> int:
    return sum(end - start for start, end in blocks.free)  # type: ignore[attr-defined]
