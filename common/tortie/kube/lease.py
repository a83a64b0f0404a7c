"""Leader election by a Lease, to the rules of client-go's leaderelection package.

No two clocks are compared. A contender measures, on its own clock, how long the Lease has not changed; a holder
measures from before its last successful renewal was sent, and so always gives up first.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from tortie.api.meta import Metadata, Object, Record
from tortie.kube.client import Client
from tortie.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from tortie.kube.resources import LEASE

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks of a contender at the Lease; a graceful hand-over takes up to so long."""
RETRY = 0.5
"""Seconds after a renewal that failed, at most."""


class LeaseLost(Exception):
    """This process does not lead any more; the message says why."""


class LeaseSpec(Record):
    holder_identity: str = ""
    """Empty: released."""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Object):
    """coordination.k8s.io/v1."""

    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()


class Elector:
    """One contender. Whoever takes the Lease raises its epoch (`leaseTransitions`), so no two terms have the same.

    `identity` is only a name to show: a Lease held under our own name is waited for like any other, since the process
    that took it may still run. A Lease that is made anew counts from 1 again, unless told better.

    The holder gives up one `renew` before `duration` (both in seconds) is over: that long its caller has for stopping.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 10.0,
        renew: float = 2.0,
    ) -> None:
        if not 0 < renew < duration / 2:
            raise ValueError(f"renew {renew} s is to be less than half of duration {duration} s")
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._renew = renew
        self._held: Lease | None = None
        self._renewed = 0.0
        """When the last successful renewal was sent."""

    async def acquire(self, floor: Callable[[], int] = lambda: 0) -> int:
        """Return the epoch as soon as this process leads; waits for ever.

        The epoch is above `floor()`: what is written under an epoch may outlive a Lease that someone deleted.
        """
        seen, since = "", 0.0
        while True:
            try:
                lease = await self._read()
                if lease is None:
                    return await self._take(None, floor())
                if lease.metadata.resource_version != seen:
                    seen, since = lease.metadata.resource_version, time.monotonic()
                expired = time.monotonic() - since >= lease.spec.lease_duration_seconds
                if expired or not lease.spec.holder_identity:
                    return await self._take(lease, floor())
            except (Conflict, AlreadyExists):
                pass  # another contender was faster
            except ApiError as error:
                log.warning("lease cannot be had", extra={"lease": self._name, "error": str(error)})
            await asyncio.sleep(POLL)

    async def hold(self) -> None:
        """Renew for as long as that succeeds, then raise LeaseLost."""
        if self._held is None:
            raise LeaseLost("not acquired")
        pause = self._renew
        while True:
            await asyncio.sleep(min(pause, max(0.0, self._remaining())))
            try:
                async with asyncio.timeout(max(0.0, self._remaining())):
                    pause = await self._renewal()
            except TimeoutError:
                self._held = None
                raise LeaseLost(f"no renewal within {self._duration - self._renew:.1f} s") from None

    async def release(self) -> None:
        """Let the next one take over at once; failing to is only logged, because the Lease expires by itself."""
        lease, self._held = self._held, None
        if lease is None:
            return
        try:
            await self._write(lease, msgspec.structs.replace(lease.spec, holder_identity="", renew_time=_now()))
        except ApiError as error:
            log.warning("lease not released", extra={"lease": self._name, "error": str(error)})

    def _remaining(self) -> float:
        """Seconds for which we still lead."""
        return self._renewed + self._duration - self._renew - time.monotonic()

    async def _renewal(self) -> float:
        """Try once; seconds until the next attempt. LeaseLost if the Lease is another's."""
        assert self._held is not None
        try:
            await self._write(self._held, msgspec.structs.replace(self._held.spec, renew_time=_now()))
        except (Conflict, NotFound):
            await self._reread()
            return 0.0
        except ApiError as error:
            log.warning("lease not renewed", extra={"lease": self._name, "error": str(error)})
            return min(RETRY, self._renew)
        return self._renew

    async def _reread(self) -> None:
        """After a conflict: go on from what is there, if that is still our term (someone annotated it, say)."""
        assert self._held is not None
        try:
            lease = await self._read()
        except ApiError as error:
            log.warning("lease cannot be read", extra={"lease": self._name, "error": str(error)})
            await asyncio.sleep(min(RETRY, self._renew))
            return
        term = (self._held.spec.holder_identity, self._held.spec.lease_transitions)
        if lease is None or (lease.spec.holder_identity, lease.spec.lease_transitions) != term:
            self._held = None
            raise LeaseLost(f"taken by {lease.spec.holder_identity!r}" if lease else "the Lease was deleted")
        self._held = lease

    async def _read(self) -> Lease | None:
        try:
            return await self._client.get(LEASE, self._name, namespace=self._namespace, type=Lease)
        except NotFound:
            return None

    async def _take(self, lease: Lease | None, floor: int) -> int:
        """Begin a new term; Conflict or AlreadyExists if another contender did."""
        epoch = 1 + max(lease.spec.lease_transitions if lease else 0, floor)
        spec = LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=math.ceil(self._duration),
            acquire_time=_now(),
            renew_time=_now(),
            lease_transitions=epoch,
        )
        await self._write(lease, spec)
        log.info("leading", extra={"lease": self._name, "identity": self._identity, "epoch": epoch})
        return epoch

    async def _write(self, lease: Lease | None, spec: LeaseSpec) -> None:
        sent = time.monotonic()
        if lease is None:
            new = Lease(metadata=Metadata(name=self._name, namespace=self._namespace), spec=spec)
            self._held = await self._client.create(LEASE, new, namespace=self._namespace, type=Lease)
        else:
            self._held = await self._client.replace(LEASE, msgspec.structs.replace(lease, spec=spec), type=Lease)
        self._renewed = sent


def _now() -> str:
    """`metav1.MicroTime`, for people to read."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
