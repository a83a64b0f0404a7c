"""The operator's process: options, election, wiring, lifetime.

Every replica keeps the world warm; the one that holds the Lease publishes. Whatever makes what is known doubtful (the
Lease lost, a newer leader met, etcd restored) ends the process: its successor starts from the API server alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from tortie.kube import log as json_log
from tortie.kube.backoff import Backoff
from tortie.kube.client import ApiError, Client
from tortie.kube.lease import Elector, LeaseLost
from tortie.kube.life import Heart, until_stopped
from tortie.kube.serve import serve
from tortie.operator import defaults
from tortie.operator.metrics import OperatorCollector
from tortie.operator.publish import Publisher
from tortie.operator.sources.informers import EtcdRestored, Informers
from tortie.operator.sources.rare import RareKinds
from tortie.operator.world import Dirty, World
from tortie.operator.writer import Superseded

log = logging.getLogger(__name__)

LEASE = "tortie-operator"
LONGEST_PAUSE = 30.0
"""Seconds between two attempts to make what a cluster begins with."""


@dataclass(frozen=True)
class Options:
    kubeconfig: Path | None
    namespace: str
    ip_pools: list[dict[str, Any]] | None
    metrics_port: int

    @classmethod
    def parse(cls, arguments: Sequence[str] | None = None) -> Options:
        parser = argparse.ArgumentParser(prog="tortie-operator", description="Tortie's operator")
        parser.add_argument("--kubeconfig", type=Path, help="absent: the pod's service account")
        parser.add_argument("--namespace", required=True, help="where the Lease is")
        parser.add_argument("--ip-pools", type=_pools, help="JSON list of the first IPPools; absent: as kubeadm says")
        parser.add_argument("--metrics-port", type=int, default=9094)
        return cls(**vars(parser.parse_args(arguments)))


def _pools(text: str) -> list[dict[str, Any]]:
    try:
        values = json.loads(text)
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise ValueError("not a list of objects")
        defaults.given(values)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    return values


class Operator:
    def __init__(self, options: Options, client: Client) -> None:
        self._options = options
        self._client = client
        self.world = World()
        self.informers = Informers(client, self.world, self._touched)
        self.rare = RareKinds(client, options.kubeconfig, self.world, self._touched)
        self.collector = OperatorCollector(self.world, self.informers)
        self._publisher: Publisher | None = None

    def _touched(self, dirty: set[Dirty]) -> None:
        if self._publisher is not None:
            self._publisher.touch(dirty)

    @property
    def synced(self) -> bool:
        return self.informers.synced and self.rare.synced

    def ready(self) -> str | None:
        return None if self.synced else "the caches are not synced yet"

    async def lead(self) -> None:
        """Wait until the world is known, then for the Lease; then publish. Returns never; raises what ends it."""
        while not self.synced:  # noqa: ASYNC110 - two sources, and it happens once
            await asyncio.sleep(0.02)
        log.info("caches are synced; waiting for the lease")
        elector = Elector(self._client, self._options.namespace, LEASE, f"{socket.gethostname()}_{os.getpid()}")
        epoch = await elector.acquire(self._highest_epoch)
        log.info("leading", extra={"epoch": epoch})
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(elector.hold())
                group.create_task(self._term(epoch))
        finally:
            self._publisher = self.collector.publisher = None
            await asyncio.shield(elector.release())

    def _highest_epoch(self) -> int:
        kinds = ("compiledtiers", "compiledpolicies", "compilednetworksets", "nodepeers", "nodestates")
        return max((obj.spec.epoch for kind in kinds for obj in self.world.shelves[kind]), default=0)

    async def _term(self, epoch: int) -> None:
        await self._adopt()
        publisher = Publisher(self._client, self.world, epoch, lambda: self.informers.steady)
        publisher.adopt()
        self._publisher = self.collector.publisher = publisher
        async with asyncio.TaskGroup() as group:
            group.create_task(publisher.run())
            group.create_task(self._defaults())

    async def _adopt(self) -> None:
        while True:
            try:
                await self.rare.adopt()
                await self.informers.adopt()
                return
            except ApiError as error:
                log.warning("what is published cannot be listed", extra={"error": str(error)})
                await asyncio.sleep(1.0)

    async def _defaults(self) -> None:
        pause = Backoff(1.0, LONGEST_PAUSE)
        while True:
            try:
                await defaults.establish_tiers(self._client)
                if await defaults.establish(self._client, self._options.ip_pools):
                    return
            except ApiError as error:
                log.warning("pools and tiers cannot be made", extra={"error": str(error)})
            await asyncio.sleep(pause.pause())


async def run(options: Options) -> None:
    """Everything, until SIGTERM or SIGINT; raises what makes a new start necessary."""
    async with await Client.connect(options.kubeconfig, user_agent="tortie-operator") as client:
        operator, heart = Operator(options, client), Heart()
        REGISTRY.register(operator.collector)
        await until_stopped(
            operator.informers.run(),
            operator.rare.run(),
            operator.lead(),
            heart.run(),
            serve(options.metrics_port, heart.stopped, operator.ready),
        )


STARTS_OVER = (LeaseLost, Superseded, EtcdRestored)


def main() -> None:
    options = Options.parse()
    json_log.setup("operator", "info")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # it warns of running in a thread
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(run(options))
    except* STARTS_OVER as group:
        log.error("starting over", extra={"reason": reason(group)})
        sys.exit(1)


def reason(group: BaseExceptionGroup[BaseException]) -> str:
    """What the innermost exceptions say."""
    texts = []
    for error in group.exceptions:
        inner = isinstance(error, BaseExceptionGroup)
        texts.append(reason(error) if inner else f"{type(error).__name__}: {error}")  # type: ignore[arg-type]
    return "; ".join(texts)


if __name__ == "__main__":
    main()
