"""What happens with one seed, as a story: python -m tests.property.operator.explore SEED"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .simulation import Simulation
from .virtual import virtual_time

ACTIONS = 80
"""How often something happens to the cluster, in one run; each makes about six steps."""


@contextmanager
def silence() -> Iterator[None]:
    """Operators complain of bad weather all the time."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def explore(simulation: Simulation) -> Exception | None:
    """Run it; what went wrong."""
    with silence(), virtual_time() as loop:
        try:
            loop.run_until_complete(simulation.run(ACTIONS))
        except Exception as error:
            return error
    return None


if __name__ == "__main__":
    told = Simulation(int(sys.argv[1]))
    failure = explore(told)
    print(told.story())
    if failure is not None:
        raise failure
