"""Free numbers against a plain set of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.nodeagent.policy.blocks import Blocks, Full


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "reserve"]), st.integers(1, 6), st.integers(0, 30))))
def test_nothing_is_given_twice_and_nothing_is_lost(actions: list[tuple[str, int, int]]) -> None:
    blocks, free, taken = Blocks("rows", 1, 32), set(range(1, 32)), list[tuple[int, int]]()
    for action, count, chosen in actions:
        if action == "take":
            try:
                start = blocks.take(count)
            except Full:
                assert not any(set(range(n, n + count)) <= free for n in range(1, 33 - count))
                continue
            run = set(range(start, start + count))
            assert run <= free
            free -= run
            taken.append((start, count))
        elif action == "give" and taken:
            start, count = taken.pop(chosen % len(taken))
            blocks.give(start, count)
            free |= set(range(start, start + count))
        elif action == "reserve":
            blocks.reserve(chosen, count)
            free -= set(range(chosen, chosen + count))
        assert {n for first, end in blocks.free for n in range(first, end)} == free
        assert all(end < following for (_, end), (following, _) in zip(blocks.free, blocks.free[1:], strict=False))


def test_a_full_map_is_named() -> None:
    blocks = Blocks("lines_v1", 1, 4)
    blocks.take(3)
    with pytest.raises(Full, match="map lines_v1 is full: 4 entries"):
        blocks.take(1)
