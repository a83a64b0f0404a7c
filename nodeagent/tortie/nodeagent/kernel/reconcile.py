"""The small interface of every kernel subsystem, and the loop that keeps the kernel as desired.

A reconciler says what is there (`read`), what differs (`diff`, pure) and changes it (`apply`). It recognises what it
owns by a mark (route protocol, device name, table name, pin path) and neither sees nor touches anything else, so that
a restart adopts what is there. What the kernel holds is kept in memory by folding its notifications into it
(`observe`), and read anew every minute or when a notification cannot be folded: adding a pod does not read 5,000
routes. What changes without a notification (maps, pins) is looked at twice a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client import Counter
from pyroute2.netlink.exceptions import NetlinkError

from tortie.api.internal import ItemError

log = logging.getLogger(__name__)

DRIFT = Counter("tortie_drift_repaired", "Repairs of what we had applied and someone else broke", ["subsystem"])
FAILURES = Counter("tortie_kernel_failures", "Changes that the kernel refused", ["subsystem"])

READ_AGAIN = 60.0
"""Seconds after which a subsystem is read in full again, notifications or not."""
LOOK_AGAIN = 0.5
"""Seconds between two looks at what changes without a notification."""
RETRY_FIRST, RETRY_MOST = 0.1, 30.0
"""Seconds before the first and the slowest retry of refused changes."""

Message = Mapping[str, Any]
"""A kernel notification: pyroute2's decoded message (`event`: RTM_NEWLINK …), or {"event": "NFT", "table": name}."""
LOOK: Message = {"event": "LOOK"}
"""Not of the kernel: time to look at what it does not notify of. Comes every LOOK_AGAIN and after each batch, so that
what is known then includes what was just done."""

Desired = TypeVar("Desired")
Wanted = TypeVar("Wanted", contravariant=True)
Actual = TypeVar("Actual")
Op = TypeVar("Op", bound=Hashable)


class Seen(enum.Enum):
    """What a notification did to the picture of what is there."""

    NOTHING = enum.auto()
    FOLDED = enum.auto()
    STALE = enum.auto()
    """Something of ours may have changed and only `read` can tell what."""


@dataclass(frozen=True)
class Failure(Generic[Op]):
    op: Op
    item: str
    """What it was for, as in ItemError: `route/10.0.0.0/26`, `endpoint/ns/name` …"""
    message: str


class Reconciler(Protocol[Wanted, Actual, Op]):
    """One kernel subsystem."""

    subsystem: str
    """Label of its metrics: links, routes, neighbours, nft, bpf."""

    async def read(self) -> Actual:
        """All that is there and carries our mark. Raises OSError."""
        ...

    def diff(self, desired: Wanted, actual: Actual) -> Sequence[Op]:
        """Changes that make `actual` into `desired`, in the order they must be made; empty: nothing to do. Pure."""
        ...

    async def apply(self, batch: Sequence[Op]) -> Sequence[Failure[Op]]:
        """Make the changes. What the kernel refuses is returned, everything else is done."""
        ...

    def observe(self, actual: Actual, message: Message) -> Seen:
        """Fold a notification into `actual` (in place)."""
        ...


@dataclass
class Subsystem(Generic[Desired, Actual, Op]):
    """A reconciler with what it should reach, what is there, and what went wrong."""

    reconciler: Reconciler[Desired, Actual, Op]
    wake: Callable[[], None]
    desired: Desired | None = None
    reached: Desired | None = None
    """The last desired state that was in the kernel without a failure."""
    tried: Desired | None = None
    """The last desired state that was applied, be it with failures (`errors`)."""
    errors: tuple[ItemError, ...] = ()
    retry_at: float = float("inf")
    _actual: Actual | None = None
    _read_at: float = 0.0
    _backoff: float = RETRY_FIRST
    _dirty: bool = True
    _missed: list[Message] | None = None
    """Notifications that came while reading; folded in afterwards."""
    _failed: set[Any] = field(default_factory=set)
    _applied: tuple[Any, ...] = ()
    """The last batch: the same again at once means that the kernel (or someone in it) does not let it stay."""
    _applied_at: float = 0.0

    def want(self, desired: Desired) -> None:
        if desired != self.desired:
            self.desired = desired
            self._dirty = True

    def observe(self, message: Message) -> None:
        if self._missed is not None:
            self._missed.append(message)
            return
        if self._actual is None:
            return
        seen = self.reconciler.observe(self._actual, message)
        if seen is Seen.STALE:
            self.forget()
        if seen is not Seen.NOTHING:
            self._dirty = True
            self.wake()

    def forget(self) -> None:
        """What is there is no longer known: read before the next diff."""
        self._actual = None
        self._dirty = True

    def due(self, now: float) -> bool:
        return self.desired is not None and (self._dirty or now >= self.deadline())

    def deadline(self) -> float:
        """When to look again though nothing calls for it (monotonic seconds)."""
        if self.desired is None:
            return float("inf")
        return self.retry_at if self.errors else self._read_at + READ_AGAIN

    async def converge(self) -> bool:
        """One round of read, diff, apply; whether there was something to do. Never raises what the kernel raises: that
        becomes `errors` and a retry."""
        desired, self._dirty = self.desired, False
        if desired is None:
            return False
        try:
            actual = await self._current()
            batch = tuple(self.reconciler.diff(desired, actual))
            if batch and batch == self._applied and time.monotonic() < self._applied_at + self._backoff:
                self._applied = ()
                self._refused([ItemError(item=self.reconciler.subsystem, message="changes do not stay")], set(batch))
                return False
            broken = set() if self.reached is None or not batch else set(self.reconciler.diff(self.reached, actual))
            failures = await self.reconciler.apply(batch) if batch else ()
            if batch:
                self.observe(LOOK)
        except (OSError, NetlinkError) as error:
            self.forget()
            self._refused([ItemError(item=self.reconciler.subsystem, message=str(error))], set())
            return False
        failed = {failure.op for failure in failures}
        repaired = [op for op in batch if op in broken and op not in failed and op not in self._failed]
        if repaired:
            DRIFT.labels(self.reconciler.subsystem).inc(len(repaired))
            items = [str(op) for op in repaired[:10]]
            log.warning("repaired", extra={"subsystem": self.reconciler.subsystem, "items": items})
        self.tried = desired
        self._applied, self._applied_at = () if failures else batch, time.monotonic()
        if failures:
            self._refused([ItemError(item=f.item, message=f.message) for f in failures], failed)
            return True
        self.reached, self.errors, self._failed, self.retry_at = desired, (), set(), float("inf")
        if not batch:
            self._backoff = RETRY_FIRST
        return bool(batch)

    async def _current(self) -> Actual:
        if self._actual is None or time.monotonic() >= self._read_at + READ_AGAIN:
            self._missed = []
            try:
                actual = await self.reconciler.read()
            finally:
                missed, self._missed = self._missed, None
            self._actual, self._read_at = actual, time.monotonic()
            for message in missed:
                if self.reconciler.observe(actual, message) is Seen.STALE:
                    self._dirty = True
                    self._read_at = 0.0
            return actual
        return self._actual

    def _refused(self, errors: list[ItemError], failed: set[Any]) -> None:
        FAILURES.labels(self.reconciler.subsystem).inc(len(errors))
        if tuple(errors) != self.errors:
            texts = [f"{error.item}: {error.message}" for error in errors[:10]]
            log.error("kernel refused", extra={"subsystem": self.reconciler.subsystem, "errors": texts})
        self.errors, self._failed = tuple(errors), failed
        self.retry_at = time.monotonic() + self._backoff
        self._backoff = min(self._backoff * 2, RETRY_MOST)


class Convergence:
    """The one task that changes the kernel: subsystem after subsystem, whenever there is a reason to."""

    def __init__(self, drain: Callable[[], None], prepare: Callable[[], None]) -> None:
        """`prepare` says what is wanted now, before every turn. `drain` hands all waiting notifications to `observe`:
        after it, what we know includes what we just did."""
        self.subsystems: list[Subsystem[Any, Any, Any]] = []
        self.listeners: list[Callable[[], None]] = []
        """Called after every turn."""
        self._drain = drain
        self._prepare = prepare
        self._wake = asyncio.Event()

    def add(self, reconciler: Reconciler[Desired, Actual, Op]) -> Subsystem[Desired, Actual, Op]:
        """In the order in which they are to be converged."""
        subsystem: Subsystem[Desired, Actual, Op] = Subsystem(reconciler, self.wake)
        self.subsystems.append(subsystem)
        return subsystem

    def wake(self) -> None:
        self._wake.set()

    def observe(self, message: Message) -> None:
        for subsystem in self.subsystems:
            subsystem.observe(message)

    def lost(self) -> None:
        """The kernel dropped notifications."""
        for subsystem in self.subsystems:
            subsystem.forget()
        self.wake()

    @property
    def errors(self) -> tuple[ItemError, ...]:
        return tuple(error for subsystem in self.subsystems for error in subsystem.errors)

    @property
    def tried(self) -> bool:
        """All that is desired is in the kernel, but for `errors`."""
        return all(s.desired is not None and s.tried is s.desired for s in self.subsystems)

    async def turn(self) -> None:
        self._wake.clear()
        self._prepare()
        for number, subsystem in enumerate(self.subsystems):
            if subsystem.due(time.monotonic()):
                if await subsystem.converge():
                    # Those that come after it may build on what it made, or find it gone (maps of a program).
                    for later in self.subsystems[number + 1 :]:
                        later.observe(LOOK)
                self._drain()
        for listener in self.listeners:
            listener()

    async def run(self) -> None:
        """For ever. The first turn needs no reason: with the API server down there may never be one."""
        self.wake()
        look_at = 0.0
        while True:
            deadline = min((s.deadline() for s in self.subsystems), default=float("inf"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(deadline, look_at) - time.monotonic())):
                    await self._wake.wait()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_AGAIN
                self.observe(LOOK)
            if self._wake.is_set() or time.monotonic() >= deadline:
                await self.turn()
