"""The loop that keeps a subsystem as desired, on a subsystem of dictionaries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import REGISTRY

from tortie.nodeagent.kernel.reconcile import LOOK, LOOK_AGAIN, Convergence, Failure, Message, Seen, Subsystem

Op = tuple[str, int | None]


@dataclass
class Shelf:
    """A subsystem whose kernel is a dictionary that notifies like one."""

    there: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    reads: int = 0
    tries: int = 0
    reverting: bool = False
    broken: bool = False
    silent: bool = False
    """Like a map: changes are not notified of."""
    subsystem: str = "shelf"
    notified: list[Message] = field(default_factory=list)

    async def read(self) -> dict[str, int]:
        self.reads += 1
        if self.broken:
            raise OSError("shelf is broken")
        snapshot = dict(self.there)
        await asyncio.sleep(0)
        return snapshot

    def diff(self, desired: dict[str, int], actual: dict[str, int]) -> Sequence[Op]:
        gone: list[Op] = [(key, None) for key in actual if key not in desired]
        return [*gone, *((key, value) for key, value in desired.items() if actual.get(key) != value)]

    async def apply(self, batch: Sequence[Op]) -> Sequence[Failure[Op]]:
        self.tries += 1
        failures = []
        for key, value in batch:
            if key in self.refused:
                failures.append(Failure((key, value), f"shelf/{key}", "refused"))
            elif not self.reverting:
                self.change(key, value)
            else:
                self.notified.append({"event": "SHELF", "key": key, "value": self.there.get(key)})
        return failures

    def observe(self, actual: dict[str, int], message: Message) -> Seen:
        if message == LOOK and self.silent and actual != self.there:
            actual.clear()
            actual.update(self.there)
            return Seen.FOLDED
        if message["event"] != "SHELF":
            return Seen.NOTHING
        if message["value"] is None:
            actual.pop(message["key"], None)
        else:
            actual[message["key"]] = message["value"]
        return Seen.FOLDED

    def change(self, key: str, value: int | None) -> None:
        if value is None:
            self.there.pop(key, None)
        else:
            self.there[key] = value
        if not self.silent:
            self.notified.append({"event": "SHELF", "key": key, "value": value})


@contextlib.asynccontextmanager
async def loop(shelf: Shelf) -> AsyncIterator[tuple[Convergence, Subsystem[dict[str, int], dict[str, int], Op]]]:
    def drain() -> None:
        while shelf.notified:
            convergence.observe(shelf.notified.pop(0))

    convergence = Convergence(drain, drain)
    subsystem = convergence.add(shelf)
    task = asyncio.create_task(convergence.run())
    yield convergence, subsystem
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def drift() -> float:
    return REGISTRY.get_sample_value("tortie_drift_repaired_total", {"subsystem": "shelf"}) or 0.0


async def test_nothing_is_read_or_changed_before_something_is_wanted() -> None:
    shelf = Shelf({"theirs": 1})
    async with loop(shelf) as (convergence, _):
        convergence.wake()
        await asyncio.sleep(0.05)
        assert (shelf.reads, shelf.tries, shelf.there) == (0, 0, {"theirs": 1})


async def test_converges_once_and_repairs_drift() -> None:
    shelf, before = Shelf({"old": 1}), drift()
    async with loop(shelf) as (convergence, subsystem):
        subsystem.want({"a": 1})
        convergence.wake()
        await asyncio.sleep(0.05)
        assert shelf.there == {"a": 1}
        assert (shelf.reads, shelf.tries, drift()) == (1, 1, before)
        shelf.change("a", 7)
        convergence.wake()
        await asyncio.sleep(0.05)
        assert shelf.there == {"a": 1}
        assert (shelf.reads, drift()) == (1, before + 1)


async def test_what_is_refused_is_told_and_tried_again_ever_more_slowly() -> None:
    shelf = Shelf(refused={"b"})
    async with loop(shelf) as (convergence, subsystem):
        subsystem.want({"a": 1, "b": 2})
        convergence.wake()
        await asyncio.sleep(0.55)
        assert shelf.there == {"a": 1}
        assert [(e.item, e.message) for e in convergence.errors] == [("shelf/b", "refused")]
        assert convergence.tried
        assert 2 <= shelf.tries <= 5
        shelf.refused.clear()
        await asyncio.sleep(0.6)
        assert shelf.there == {"a": 1, "b": 2}
        assert convergence.errors == ()


async def test_a_kernel_that_does_not_keep_changes_is_not_hammered() -> None:
    shelf = Shelf(reverting=True)
    async with loop(shelf) as (convergence, subsystem):
        subsystem.want({"a": 1})
        convergence.wake()
        await asyncio.sleep(0.5)
        assert shelf.tries < 8
        assert [e.message for e in convergence.errors] == ["changes do not stay"]
        shelf.reverting = False
        await asyncio.sleep(0.5)
        assert shelf.there == {"a": 1}
        assert convergence.errors == ()


async def test_a_subsystem_that_cannot_be_read_is_an_error_and_no_end() -> None:
    shelf = Shelf(broken=True)
    async with loop(shelf) as (convergence, subsystem):
        subsystem.want({"a": 1})
        convergence.wake()
        await asyncio.sleep(0.3)
        assert [e.message for e in convergence.errors] == ["shelf is broken"]
        assert not convergence.tried
        assert shelf.reads < 8
        shelf.broken = False
        await asyncio.sleep(0.5)
        assert shelf.there == {"a": 1}


async def test_a_change_while_reading_is_not_lost() -> None:
    shelf = Shelf({"a": 1})
    subsystem: Subsystem[dict[str, int], dict[str, int], Op] = Subsystem(shelf, lambda: None)
    subsystem.want({"a": 1})
    reading = asyncio.create_task(subsystem.converge())
    await asyncio.sleep(0)
    subsystem.observe({"event": "SHELF", "key": "a", "value": 5})
    await reading
    assert shelf.there == {"a": 1}
    assert shelf.tries == 1


@pytest.mark.parametrize("times", [1, 3])
async def test_lost_notifications_mean_reading_anew(times: int) -> None:
    shelf = Shelf()
    async with loop(shelf) as (convergence, subsystem):
        subsystem.want({"a": 1})
        convergence.wake()
        await asyncio.sleep(0.02)
        shelf.there["a"] = 9
        for _ in range(times):
            convergence.lost()
        await asyncio.sleep(0.05)
        assert shelf.there == {"a": 1}
        assert shelf.reads == 2


async def test_what_changes_without_a_notification_is_found_by_looking() -> None:
    shelf, before = Shelf(silent=True), drift()
    async with loop(shelf) as (convergence, subsystem):
        subsystem.want({"a": 1})
        convergence.wake()
        await asyncio.sleep(0.05)
        assert shelf.there == {"a": 1}
        shelf.there["a"] = 9
        await asyncio.sleep(LOOK_AGAIN + 0.1)
        assert shelf.there == {"a": 1}
        assert (shelf.reads, shelf.tries, drift()) == (1, 2, before + 1)


async def test_after_a_batch_what_was_done_is_known_without_a_notification() -> None:
    """Else the next turn would do it again and take that for a kernel that does not keep it."""
    shelf = Shelf(silent=True)
    async with loop(shelf) as (convergence, subsystem):
        for value in range(5):
            subsystem.want({"a": value})
            convergence.wake()
            await asyncio.sleep(0.02)
        assert (shelf.reads, shelf.tries, convergence.errors) == (1, 5, ())


async def test_looking_at_what_has_not_changed_is_no_turn() -> None:
    shelf, turns = Shelf(silent=True), []
    async with loop(shelf) as (convergence, subsystem):
        convergence.listeners.append(lambda: turns.append(1))
        subsystem.want({"a": 1})
        convergence.wake()
        await asyncio.sleep(0.1)
        settled = len(turns)
        await asyncio.sleep(2 * LOOK_AGAIN)
        assert len(turns) == settled


async def test_the_first_turn_waits_for_nothing() -> None:
    """What was kept on disk is wanted before anything has happened."""
    shelf = Shelf()
    convergence = Convergence(lambda: None, lambda: subsystem.want({"a": 1}))
    subsystem = convergence.add(shelf)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await convergence.run()
    assert shelf.there == {"a": 1}
