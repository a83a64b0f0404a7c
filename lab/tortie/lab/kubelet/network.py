"""Whether pods can be attached on this node: a conflist is there and its plugins say so. Garbage is collected once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from tortie.lab.kubelet.cni import Cni, CniError

log = logging.getLogger(__name__)

READY_PERIOD, UNREADY_PERIOD = 5.0, 0.2
"""Seconds between two looks: a kubelet's, and quick while a node waits for its first pod."""


class Network:
    def __init__(self, cni: Cni, valid: Callable[[], Collection[tuple[str, str]]], changed: Callable[[], None]) -> None:
        self.reason: str | None = "cni plugin not initialized"
        """Why pods cannot be attached; None if they can."""
        self.ready = asyncio.Event()
        self._cni = cni
        self._valid = valid
        self._changed = changed
        self._collected = False

    async def run(self) -> None:
        while True:
            await asyncio.sleep(READY_PERIOD if self.ready.is_set() else UNREADY_PERIOD)
            await self.look()

    async def look(self) -> None:
        reason = None
        try:
            await self._cni.status()
        except CniError as error:
            reason = str(error)
        if reason is None and not self._collected:
            await self._collect()
        if reason != self.reason:
            log.info("network", extra={"ready": reason is None, "reason": reason})
            self.reason = reason
            self._changed()
        if reason is None:
            self.ready.set()
        else:
            self.ready.clear()

    async def _collect(self) -> None:
        """Before anything is attached: undo what a runtime before this one attached and nobody has any more."""
        self._collected = True
        try:
            await self._cni.collect_garbage(self._valid())
        except CniError as error:
            log.warning("garbage is not collected", extra={"error": str(error)})
