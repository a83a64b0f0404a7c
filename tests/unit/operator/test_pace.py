"""Writes are limited by what they cost everybody: writes a second by nodes."""

from __future__ import annotations

import asyncio

import pytest

from tortie.operator.pace import BURST, EVENTS_PER_SECOND, Pace

from ...property.operator.virtual import run


@pytest.mark.parametrize("nodes", [10, 1_000, 5_000])
def test_a_stream_of_writes_is_slowed_to_the_limit_after_a_burst(nodes: int) -> None:
    async def stream() -> float:
        pace, loop = Pace(), asyncio.get_running_loop()
        began = loop.time()
        for _ in range(3 * EVENTS_PER_SECOND // nodes):
            await pace.take(nodes)
        return loop.time() - began

    assert run(stream()) == pytest.approx(3 - BURST, abs=0.1)


def test_a_burst_costs_no_time_and_an_idle_time_saves_up_no_more_than_one() -> None:
    async def bursts() -> list[float]:
        pace, loop, took = Pace(), asyncio.get_running_loop(), []
        for _ in range(2):
            await asyncio.sleep(3600)
            for writes in (100, 10):
                began = loop.time()
                for _ in range(writes):
                    await pace.take(1_000)
                took.append(loop.time() - began)
        return took

    assert run(bursts()) == pytest.approx([0.0, 0.1, 0.0, 0.1], abs=0.02)


def test_without_nodes_a_write_counts_as_one() -> None:
    async def many() -> float:
        pace, loop = Pace(), asyncio.get_running_loop()
        began = loop.time()
        for _ in range(1000):
            await pace.take(0)
        return loop.time() - began

    assert run(many()) == 0.0
