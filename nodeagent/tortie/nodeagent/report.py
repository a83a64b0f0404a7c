"""NodeState.status: what this node has adopted and applied, what is wrong, what it has let go."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from tortie.api.internal import FORMAT, ItemError, NodeState
from tortie.kube.client import ApiError, Client
from tortie.kube.resources import NODE_STATES
from tortie.nodeagent.agent import Agent

log = logging.getLogger(__name__)

SOONEST = 0.2
"""Seconds between two reports, at least; with many nodes one per node and nodes ÷ REPORTS seconds."""
REPORTS = 100
RETRY_FIRST, RETRY_MOST = 1.0, 30.0
LONG = 5.0
"""Seconds after which an object that waits for its stamp is worth telling."""
MOST_ERRORS = 100


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reporter:
    def __init__(self, client: Client, agent: Agent) -> None:
        self._client = client
        self._agent = agent
        self._since: dict[str, tuple[str, str]] = {}
        """Condition → its status and since when."""
        self._waiting: dict[tuple[str, str], float] = {}
        """(plural, key) of what waits → since when."""

    async def run(self) -> None:
        """Report for ever: only what changed, and never because of NodePeers alone (rule 10)."""
        sent: dict[str, Any] = {}
        pause = RETRY_FIRST
        while True:
            news = asyncio.ensure_future(self._agent.news())
            status = self.status()
            if telling(status) != telling(sent):
                try:
                    await self._send(status)
                except ApiError as error:
                    news.cancel()
                    log.warning("report failed", extra={"error": str(error)})
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_MOST)
                    continue
                sent, pause = status, RETRY_FIRST
                nodes = len(self._agent.adoption.streams["nodepeers"].adopted)
                await asyncio.sleep(max(SOONEST, nodes / REPORTS))
            await asyncio.wait([news], timeout=1.0 if self._waiting else None)
            news.cancel()

    async def _send(self, status: dict[str, Any]) -> None:
        body = {"status": status | {"heartbeat": timestamp()}}
        await self._client.patch(NODE_STATES, self._agent.node, body, subresource="status", type=NodeState)

    def status(self) -> dict[str, Any]:
        """All fields, the empty ones as well: in a merge patch an absent one would stay as it was."""
        applied = self._agent.applied
        errors = self._agent.errors
        return {
            "format": FORMAT,
            "generation": applied.generation,
            "applied": applied.versions,
            "conditions": [self._ready(errors), self._adopted()],
            "released": list(applied.released),
            "errors": [{"item": e.item, "message": e.message} for e in errors[:MOST_ERRORS]],
        }

    def _ready(self, errors: tuple[ItemError, ...]) -> dict[str, Any]:
        why_not = self._agent.ready()
        if why_not:
            return self._condition("Ready", "False", "Starting", why_not)
        if errors:
            return self._condition("Ready", "True", "WithErrors", f"{len(errors)} items failed, see errors")
        return self._condition("Ready", "True", "Applied", "the kernel holds what is desired")

    def _adopted(self) -> dict[str, Any]:
        """False while objects wait long for what their stamps name."""
        now = time.monotonic()
        waits = {(kind, key): missing for kind, key, missing in self._agent.adoption.waits()}
        self._waiting = {name: self._waiting.get(name, now) for name in waits}
        long = [name for name, since in self._waiting.items() if now - since >= LONG]
        if self._agent.adoption.restoring:
            return self._condition("Adopted", "False", "Restoring", "waiting for complete lists of all kinds")
        if not long:
            return self._condition("Adopted", "True", "NothingWaits", "")
        kind, key = long[0]
        missing = ", ".join(f"{k} up to {v}" for k, v in waits[kind, key].items()) or "objects that wait themselves"
        more = f" (and {len(long) - 1} more)" if len(long) > 1 else ""
        return self._condition("Adopted", "False", "WaitingForWatches", f"{kind}/{key} waits for {missing}{more}")

    def _condition(self, kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
        known = self._since.get(kind)
        since = known[1] if known and known[0] == status else timestamp()
        self._since[kind] = (status, since)
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": self._agent.applied.generation,
            "lastTransitionTime": since,
        }


def telling(status: dict[str, Any]) -> dict[str, Any]:
    """What makes a report worth a write: all but how far NodePeers have come."""
    applied = {kind: mark for kind, mark in status.get("applied", {}).items() if kind != "nodepeers"}
    return {**status, "applied": applied}
