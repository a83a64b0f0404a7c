"""No address twice, none lost, whatever happens to operators, network and machines in between.

Every run is made from a seed: a cluster of three nodes and a few tiny pools, in which users, controllers and machines
act; one to three operators, each the real one from its informers on, that are killed before any request, cut off, and
superseded without knowing it; requests and answers that are lost, late or refused; watches that lag, stall and break.
`invariants` are checked after every single write, `settled` when all is quiet in the end, and then a successor must
find nothing to write: what is published depends on the world alone.

TORTIE_STEPS=10000000 for a longer run; `explore` tells what happens with one seed.
"""

from __future__ import annotations

import os

import pytest

from .explore import explore
from .simulation import Simulation

STEPS = int(os.environ.get("TORTIE_STEPS", "1000000"))
SHOWN = 5


@pytest.mark.timeout(max(600, STEPS // 1000))
def test_no_address_is_given_twice_and_none_is_lost_in_a_million_steps() -> None:
    steps, seed = 0, 0
    failures: dict[int, str] = {}
    while steps < STEPS and len(failures) < SHOWN:
        simulation = Simulation(seed)
        if (failure := explore(simulation)) is not None:
            failures[seed] = f"{type(failure).__name__}: {failure}"
        steps += simulation.steps
        seed += 1
    told = "\n".join(f"  {seed}: {failure}" for seed, failure in failures.items())
    assert not failures, f"see python -m tests.property.operator.explore SEED\n{told}"


def test_the_same_seed_is_the_same_story() -> None:
    stories = []
    for _ in range(2):
        simulation = Simulation(20450)
        assert explore(simulation) is None
        stories.append(simulation.story())
    assert stories[0] == stories[1]
